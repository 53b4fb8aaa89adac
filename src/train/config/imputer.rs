//! Settings of an Imputer (`[imputer]`; Saharia et al. 2020, arXiv 2004.07437): a parallel model that predicts no length, since
//! blanks fill the slots that are left over. A run without the section trains a CMLM.
//!
//! Its loss has no label smoothing and no length, so those keys are ignored. Its canvas is twice as long as its source, so a batch
//! of `train.batch_tokens` takes more memory than a CMLM's.

use serde::{Deserialize, Serialize};

use crate::model::{Lengths, Shape};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imputer {
    /// Which slots are masked; the others show the best alignment that the network itself finds.
    pub mask: SlotMask,
    /// The bundle's blank has this much less of a logit than the network that was trained, in nats: above 0 where the
    /// model says too little. A student of the bundle learns it with all else.
    #[serde(skip_serializing_if = "is_zero")]
    pub blank_penalty: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotMask {
    /// Of every B neighbours the same number k, as decoding in B steps leaves them: B is 2, 4, 8 or 16, k is
    /// 1..=B, each as likely. So about a quarter of the canvases is masked as a whole.
    #[default]
    Block,
    /// A random number of slots, each number as likely.
    Uniform,
    /// All of them: plain CTC, for models of one step.
    Full,
}

impl Imputer {
    pub(super) fn validate(&self) -> Result<(), String> {
        let penalty = self.blank_penalty;
        if penalty.is_finite() {
            return Ok(());
        }
        Err(format!("imputer.blank_penalty is {penalty}; it must be a number"))
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
