//! tutti translates with *parallel decoding*: every target token at once, refined over a number of
//! steps that the caller chooses. See README.md for what it does and how fast.
//!
//! The way of a request, top to bottom:
//!
//! * [`http`] reads a request, admits it whole or not at all, and writes the answer;
//! * [`text`] splits it into sentences and turns words into token ids (and back);
//! * [`engine`] queues each sentence, batches what is there before every pass, and answers;
//! * [`decode`] decides what stands on the canvas after each pass: mask-predict as pure functions;
//! * [`model`] is the network and its folder on disk (a bundle), made of the layers in [`nn`].
//!
//! [`train`] makes bundles, [`eval`] scores them. [`settings`] turns flags, environment and files
//! into one validated value; [`metrics`] holds every Prometheus series; [`error`] every error;
//! [`files`] writes what must be there whole or not at all; [`known`] shows whether a machine computes a
//! bundle as it should.
//!
//! Arrows point one way: `http -> engine -> decode -> model -> nn` and
//! `train -> {decode, model, nn, eval, text}`. `nn`, `model`, `decode` and `text` know nothing of
//! HTTP, tokio, metrics or settings; `engine` knows no HTTP; `http` knows no tensors.

pub mod bench;
pub mod decode;
pub mod engine;
pub mod error;
pub mod eval;
pub mod files;
pub mod formats;
pub mod glossary;
pub mod http;
pub mod known;
pub mod lines;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod settings;
pub mod text;
pub mod train;

pub use error::{Error, Result};
