//! The network and its folder on disk (a *bundle*). Training writes bundles; the server, `tutti translate` and `train
//! evaluate` read them. Nothing else connects the two.

mod backend;
mod bundle;
mod config;
#[cfg(any(feature = "cuda", test))]
pub mod device;
mod lengths;
mod lm;
mod network;
mod params;
pub mod quantized;
mod rows;
mod shape;
mod shortlist;

pub use backend::{Backend, DeviceChoice, Dtype, DtypeChoice};
pub use bundle::{Bundle, Score, Stored, checksum};
pub use config::{Architecture, Config, KnownSentence, check_language};
pub use lengths::{LengthPrediction, Lengths, TOP_K};
pub use lm::{Context, Fusion, Gram, LanguageModel};
pub use network::{Memory, Network, Padded, Past};
pub use params::{Spec, Tensors};
pub use quantized::{QuantizedNetwork, SentenceKeys};
pub use shape::{DecoderAttention, NormPlace, Positions, Refresh, Shape};
pub use shortlist::Shortlist;
