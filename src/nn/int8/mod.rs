//! Linear layers in eight bits, for inference on CPUs, and the f32 kernels that stand between them.
//!
//! Weights are rounded to i8 once, with a scale for each output channel, and packed in the order in
//! which [`kernel`] reads them. Activations are rounded to u8 row by row ([`Rows`]). Sums are exact
//! integers; turning them into f32 is one piece of code. Hence the promises:
//!
//! * a row's result is the same bits whatever the other rows are, how many, and on how many threads;
//! * every CPU gives the same bits ([`kernel::Path`]), those without a fast path included.
//!
//! Everything works on slices of *packed* rows: the tokens of all sentences one after the other,
//! without padding. Knows nothing of tensors, gradients or models.

mod attention;
mod buffer;
pub mod kernel;
mod linear;
mod norm;
mod rows;
mod select;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use attention::{Attention, AttentionScratch, Strided};
pub use buffer::Buffer;
pub use linear::{PackedLinear, Positive, Then};
pub use norm::{Norm, log_softmax};
pub use rows::{Input, Rows};
pub use select::Channelwise;
