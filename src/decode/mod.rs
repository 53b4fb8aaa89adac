//! Mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324): start from a canvas of masks, let the
//! network fill every masked place at once, put masks back on the least certain places, repeat.
//!
//! An Imputer (Saharia et al. 2020, arXiv 2004.07437) fills slots instead, some with blanks, and none is masked
//! again: no length has to be guessed. What its slots say together is the likeliest translation, not the likeliest
//! filling, and a language model of the target may have its say in it; [`ctc`] knows the fillings of a translation.
//!
//! The rules are pure functions over scores and canvases; the network stands behind [`Translator`].
//! A [`Canvas`] is one candidate, a [`Beam`] the candidates of one sentence, [`translate`] the
//! synchronous way from many sentences to their translations. [`search`] is the other way, from left to
//! right with an autoregressive network, for the teachers of such models.

mod autoregressive;
mod beam;
mod canvas;
pub mod ctc;
mod decoding;
#[cfg(any(feature = "cuda", test))]
mod device;
pub mod fake;
mod hypothesis;
mod length;
mod loaded;
mod network;
mod prefix;
mod quantized;
mod slots;
mod translate;
mod translator;

pub use autoregressive::{Search, Searched, search, search_prefixes};
pub use beam::{Beam, apply_all};
pub use canvas::Canvas;
pub use decoding::Decoding;
pub use hypothesis::{Hypothesis, best_first};
pub use length::length_beam;
pub use loaded::{InferenceMemory, InferenceModel};
pub use slots::{argmax_per_block, ctc_collapse, imputed_token};
pub use translate::{DecodeOptions, translate};
pub use translator::{Encoded, Limits, Prediction, Row, Rules, Steps, Translator};
