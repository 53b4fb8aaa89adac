//! Fused operations with their gradients, as candle custom ops.
//!
//! An op runs its own kernel on the CPU, kernels of `nn::device` between candle's products on a GPU, and a composition
//! of stock candle ops on any other device (see `kernel_path`). Tests compare the paths with each other and with finite
//! differences. Stock candle has no backward pass for its fused layer norm and softmax and would drop the gradient
//! without an error.
//!
//! Every kernel works row by row, or pads to a fixed block, so the result for a row does not depend on other rows.

mod attention;
mod cpu;
mod cross_entropy;
mod distillation;
mod flop_count;
#[cfg(target_arch = "x86_64")]
pub mod fused;
mod gather;
mod gradients;
mod kernel_path;
#[cfg(any(feature = "cuda", test))]
mod kernels;
#[cfg(any(feature = "cuda", test))]
mod launch;
mod layer_norm;
mod linear;
mod mean;
mod output;
mod product;
mod residual;
mod rows;
mod soft_targets;
mod squares;
#[cfg(test)]
mod tests;
mod types;
mod vocabulary;

pub use attention::{cross_attention, self_attention};
pub use cpu::{all_finite, exp, with_values};
pub use cross_entropy::cross_entropy;
pub use distillation::{distance, divergence};
pub use flop_count::{operations, without_gradients};
pub use gather::{append, pad_stack};
pub use gradients::backward;
#[cfg(test)]
pub use kernel_path::with_path;
pub use kernel_path::{KernelPath, select_path};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use mean::mean_of_real;
pub use output::{Output, WeightedLoss};
pub use residual::{dropout, residual, residual_dropout};
pub use rows::{embed, select};
pub use soft_targets::{Classes, log_probs_of, soft_cross_entropy};
pub use squares::squares;
pub use types::{Activation, AttentionMask};
pub use vocabulary::{best_tokens, log_softmax, top_tokens};
