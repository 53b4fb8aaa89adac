//! Settings of the network (`[model]`).

use serde::{Deserialize, Serialize};

use crate::model::NormPlace;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    pub d_model: usize,
    /// Inner width of the feed-forward layers.
    pub ffn: usize,
    pub heads: usize,
    /// Longest sentence in tokens, bos and eos included.
    pub max_positions: usize,
    /// Norms before or after each sublayer.
    #[serde(skip_serializing_if = "Model::is_default_norm")]
    pub norm: NormPlace,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            encoder_layers: 3,
            decoder_layers: 3,
            d_model: 256,
            ffn: 1024,
            heads: 4,
            max_positions: 256,
            norm: NormPlace::default(),
        }
    }
}

impl Model {
    /// The default is left out, so that records of older runs stay equal.
    fn is_default_norm(norm: &NormPlace) -> bool {
        *norm == NormPlace::default()
    }
}
