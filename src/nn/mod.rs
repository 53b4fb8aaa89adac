//! Layers for inference and training. Each is a small struct of tensors with `load` and `forward`; differences
//! between training and inference are passed as [`Mode`].
//!
//! This module does not depend on requests, canvases or files.

mod attention;
#[cfg(any(feature = "cuda", test))]
pub mod device;
mod embedding;
pub mod gemm;
pub mod int8;
mod layer_norm;
mod linear;
mod mode;
pub mod ops;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub use attention::{CrossAttention, FeedForward, SelfAttention, Source, Sublayer, chain};
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::{Activation, Linear};
pub use mode::Mode;
