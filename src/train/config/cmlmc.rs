//! Settings of a CMLM that corrects itself (`[cmlmc]`; CMLMC, Huang et al. 2022). Defaults are the published values.
//! A run without this section trains a plain CMLM.

use serde::{Deserialize, Serialize};

use crate::keys::{in_range, not_negative};
use crate::model::{DecoderAttention, Positions, Refresh, Shape};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cmlmc {
    /// Adds a self-attention over the whole canvas before each decoder layer, and makes the layer's own causal.
    pub causal_attention: bool,
    /// Combines token and position embeddings by a learned map instead of adding them, in encoder and decoder.
    pub concat_positions: bool,
    /// Share of the revealed tokens that training replaces by predictions, so that the model learns to correct them.
    /// Decoding then rewrites all positions in every step. With 0 it writes only masked ones.
    pub corrected: f64,
    /// The encoder learns to predict masked source words: 1 + ⌊share · words · u⌋ of each source, u ~ U(0, 1). 0
    /// masks none.
    pub masked_source: f64,
    /// Weight of the loss of masked source words.
    pub source_weight: f64,
}

impl Default for Cmlmc {
    fn default() -> Self {
        Self {
            causal_attention: true,
            concat_positions: true,
            corrected: 0.3,
            masked_source: 0.1,
            source_weight: 0.01,
        }
    }
}

impl Cmlmc {
    /// The shape of a plain CMLM with the changes of this section.
    pub fn shape(&self, plain: Shape) -> Shape {
        let (attention, positions) = (plain.decoder_attention, plain.positions);
        Shape {
            decoder_attention: if self.causal_attention {
                DecoderAttention::WholeThenCausal
            } else {
                attention
            },
            positions: if self.concat_positions { Positions::Concat } else { positions },
            refresh: if self.corrected > 0.0 { Refresh::All } else { Refresh::Masked },
            ..plain
        }
    }

    /// # Errors
    /// The first invalid key.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (key, value) in [("corrected", self.corrected), ("masked_source", self.masked_source)] {
            in_range(&format!("cmlmc.{key}"), value, 0.0, 1.0)?;
        }
        not_negative("cmlmc.source_weight", self.source_weight)
    }
}
