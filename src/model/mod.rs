//! The network and its folder on disk (a *bundle*). Training writes a bundle; the server,
//! `tutti translate` and `train evaluate` read it, and nothing else passes between them.

mod bundle;
mod config;
mod network;
mod params;
pub mod quantized;

pub use bundle::{Bundle, Score, checksum};
pub use config::{Config, Shape};
pub use network::{Memory, Network, Padded};
pub use params::{Backend, Dtype, Spec};
pub use quantized::{QuantizedNetwork, SentenceKeys};
