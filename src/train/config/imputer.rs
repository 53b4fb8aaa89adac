//! Settings of an Imputer (`[imputer]`; Saharia et al. 2020, arXiv 2004.07437): a parallel model that predicts no
//! length, because blanks fill unused slots. A run without this section trains a CMLM.
//!
//! The loss has no label smoothing and no length, so those keys are ignored. A canvas is twice as long as its source,
//! so a batch of `train.batch_tokens` takes more memory than a CMLM's.

use serde::{Deserialize, Serialize};

use crate::model::{Lengths, Shape};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imputer {
    /// Which slots are masked. The others show the best alignment that the network finds itself.
    pub mask: SlotMask,
    /// Subtracted from the blank's logit in the bundle, in nats. Above 0 corrects a model that translates too little;
    /// a student of the bundle learns it, too.
    #[serde(skip_serializing_if = "is_zero")]
    pub blank_penalty: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotMask {
    /// The same number k of every B neighbours, as decoding in B steps leaves them. B is 2, 4, 8 or 16, and k is
    /// uniform in 1..=B, so about a quarter of the canvases is fully masked.
    #[default]
    Block,
    /// A random number of slots, uniformly distributed.
    Uniform,
    /// All slots: plain CTC, for one-step models.
    Full,
}

impl Imputer {
    pub(super) fn validate(&self) -> Result<(), String> {
        let penalty = self.blank_penalty;
        if penalty.is_finite() {
            return Ok(());
        }
        Err(format!("imputer.blank_penalty must be a finite number, not {penalty}"))
    }

    /// The shape of such a network: positions for the slots of the longest source, and no length head.
    pub fn shape(&self, plain: Shape) -> Shape {
        Shape {
            lengths: Lengths::Ctc,
            length_classes: 0,
            max_positions: Lengths::SLOTS_PER_TOKEN * plain.max_positions,
            ..plain
        }
    }
}
