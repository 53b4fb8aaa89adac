//! Parallel decoding. Mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324) starts from a canvas of masks, lets
//! the network predict every masked position at once, masks the least certain positions again, and repeats.
//!
//! An Imputer (Saharia et al. 2020, arXiv 2004.07437) fills slots, some of them with blanks, and never masks again,
//! so it needs no exact length. Its translation is the one with the highest total probability over all fillings that
//! collapse to it; an n-gram language model may take part in the search. [`ctc`] sums over the fillings of a
//! translation.
//!
//! The rules are pure functions of scores and canvases; the network is behind [`Translator`]. A [`Canvas`] is one
//! candidate, a [`LengthBeam`] holds the candidates of one sentence. [`translate`] decodes many sentences
//! synchronously.
//! [`search`] is beam search with an autoregressive network.

mod autoregressive;
mod beam;
mod canvas;
pub mod ctc;
mod decoding;
#[cfg(any(feature = "cuda", test))]
mod device;
mod hypothesis;
mod inference_model;
mod length;
mod network;
mod passages;
mod prefix;
mod quantized;
mod slots;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod translate;
mod translator;

pub use autoregressive::{SearchOptions, SearchResult, search, search_prefixes};
pub use beam::{LengthBeam, apply_all};
pub use canvas::Canvas;
pub use decoding::Decoding;
pub use hypothesis::{Hypothesis, best_first};
pub use inference_model::{InferenceMemory, InferenceModel};
pub use length::length_beam;
pub use passages::{MORE_LENGTHS, more_steps, search_passages, translate_passages, translate_passages_with};
pub use slots::{argmax_per_block, ctc_collapse, imputed_token};
pub use translate::{DecodeOptions, translate, translate_by};
pub use translator::{DecodingRules, Encoded, Limits, Prediction, Row, Steps, Translator};
