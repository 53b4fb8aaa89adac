//! Settings of a CMLM that corrects itself (`[cmlmc]`; CMLMC, Huang et al. 2022). Defaults are the published values. A run
//! without the section trains a plain CMLM.

use serde::{Deserialize, Serialize};

use crate::model::{DecoderAttention, Positions, Refresh, Shape};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cmlmc {
    /// One more self-attention in front of each decoder layer, over the whole canvas, and the layer's own
    /// sees only what stands before.
    pub causal_attention: bool,
    /// Token and position are joined by a learned map instead of summed, on either side of the network.
    pub concat_positions: bool,
    /// Share of the revealed tokens that are replaced by guesses, to be corrected; decoding then refreshes
    /// all places in every step. 0 for none: decoding writes masked places only.
    pub corrected: f64,
    /// 1 + ⌊share · words · u⌋ words of each source are masked, u ~ U(0, 1), and the encoder is to name
    /// them; 0 for none at all.
    pub masked_source: f64,
    /// Weight of that loss.
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
    /// The shape of such a network.
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

    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self) -> Result<(), String> {
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        for (key, value) in [("corrected", self.corrected), ("masked_source", self.masked_source)] {
            let fits = (0.0..=1.0).contains(&value);
            rule(fits, format!("cmlmc.{key} is {value}; it must lie between 0 and 1"))?;
        }
        let weight = self.source_weight;
        let fits = weight >= 0.0 && weight.is_finite();
        rule(fits, format!("cmlmc.source_weight is {weight}; it must be 0 or more"))
    }
}
