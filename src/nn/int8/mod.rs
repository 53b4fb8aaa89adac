//! 8-bit linear layers for inference on CPUs, and the f32 kernels between them.
//!
//! Weights are rounded to i8 once, with a scale for each output channel ([`RowScale`]), and packed in the order in
//! which [`kernel`] reads them. Activations are rounded to u8 row by row ([`Rows`]). Sums are exact integers, and one
//! piece of code converts them to f32. This guarantees:
//!
//! * the result for a row does not depend on the other rows, their number or the number of threads, bit for bit;
//! * every CPU gives the same bits ([`kernel::Path`]), with or without a fast path.
//!
//! Everything works on slices of *packed* rows: the tokens of all sentences one after the other, without padding.
//! This module does not depend on tensors, gradients or models.

mod attention;
mod buffer;
pub mod kernel;
mod lanes;
mod linear;
mod norm;
mod rows;
mod scale;
mod select;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use attention::{Attention, AttentionScratch, Strided};
pub use buffer::Buffer;
pub use linear::{PackedLinear, Positive, StoreMode};
pub use norm::{Norm, log_softmax};
pub use rows::{Input, Rows};
pub use scale::RowScale;
pub use select::Channelwise;
