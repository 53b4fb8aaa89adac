//! Mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324): start from a canvas of masks, let the network fill every
//! masked place at once, mask the least certain places again, repeat.
//!
//! An Imputer (Saharia et al. 2020, arXiv 2004.07437) fills slots, some with blanks, and masks none again, so it needs no
//! length. Its translation is the one with the most probable set of fillings, not the most probable filling; an n-gram
//! language model may take part in that search. [`ctc`] sums over the fillings of a translation.
//!
//! The rules are pure functions over scores and canvases; the network is behind [`Translator`]. A [`Canvas`] is one
//! candidate, a [`Beam`] the candidates of one sentence. [`translate`] decodes many sentences synchronously. [`search`] is beam
//! search with an autoregressive network.

mod autoregressive;
mod beam;
mod canvas;
pub mod ctc;
mod decoding;
#[cfg(any(feature = "cuda", test))]
mod device;
mod hypothesis;
mod length;
mod loaded;
mod network;
mod passages;
mod prefix;
mod quantized;
mod slots;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod translate;
mod translator;

pub use autoregressive::{Search, Searched, search, search_prefixes};
pub use beam::{Beam, apply_all};
pub use canvas::Canvas;
pub use decoding::Decoding;
pub use hypothesis::{Hypothesis, best_first};
pub use length::length_beam;
pub use loaded::{InferenceMemory, InferenceModel};
pub use passages::{MORE_LENGTHS, more_steps, search_passages, translate_passages, translate_passages_with};
pub use slots::{argmax_per_block, ctc_collapse, imputed_token};
pub use translate::{DecodeOptions, translate};
pub use translator::{Encoded, Limits, Prediction, Row, Rules, Steps, Translator};
