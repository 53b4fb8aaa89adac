//! Mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324): start from a canvas of masks, let the
//! network fill every masked place at once, put masks back on the least certain places, repeat.
//!
//! The rules are pure functions over scores and canvases; the network stands behind [`Translator`].

mod translator;

pub use translator::{Encoded, Limits, Prediction, Row, Steps, Translator};
