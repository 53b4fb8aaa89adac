//! Target lengths: the classes of the length head, and the prediction before the first pass.

use serde::{Deserialize, Serialize};

/// How a network predicts the length of a translation. Lengths include bos and eos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// With a length head. Class c of C: the target is c − C / 2 tokens longer than the source.
    #[default]
    Offset,
    /// With a length head. Class c: the target has c tokens.
    Absolute,
    /// With its output: the canvas has [`SLOTS_PER_TOKEN`](Self::SLOTS_PER_TOKEN) slots for each source token, and
    /// the translation is what remains without repeats and blanks (CTC, Graves et al. 2006; Imputer, Saharia et al.
    /// 2020).
    Ctc,
}

/// Number of tokens of each slot that take part in an Imputer's prefix search.
pub const TOP_K: usize = 4;

impl Lengths {
    /// Slots of an Imputer's canvas for each source token, bos and eos included.
    pub const SLOTS_PER_TOKEN: usize = 2;

    /// The class of a target length, clamped to the existing ones; 0 if there are none.
    pub fn class(self, source: usize, target: usize, classes: usize) -> u32 {
        let class = match self {
            Self::Offset => (target + classes / 2).saturating_sub(source),
            Self::Absolute => target,
            Self::Ctc => 0,
        };
        class.min(classes.saturating_sub(1)) as u32
    }

    /// Maps the scores of all classes to scores of inner target lengths `0..=limit` (without bos and eos), for a
    /// source of `source` tokens. Lengths without a class have minus infinity.
    pub fn inner_scores(self, classes: &[f32], source: usize, limit: usize) -> Vec<f32> {
        let shift = match self {
            Self::Offset => source as isize - classes.len() as isize / 2 - 2,
            Self::Absolute | Self::Ctc => -2,
        };
        (0..=limit as isize)
            .map(|inner| usize::try_from(inner - shift).ok().and_then(|c| classes.get(c)).copied())
            .map(|score| score.unwrap_or(f32::NEG_INFINITY))
            .collect()
    }
}

/// The length of a sentence's canvas, predicted from the source.
#[derive(Clone, Debug, PartialEq)]
pub enum LengthPrediction {
    /// Log-probability of each inner target length: index `l` is a translation of `l` tokens without bos and eos.
    /// `-inf` for impossible lengths.
    Lengths(Vec<f32>),
    /// `count` slots, some of which become blanks; the network has positions for `max`.
    Slots { count: usize, max: usize },
}

impl LengthPrediction {
    /// The log-probabilities of inner target lengths; empty for slots.
    pub fn into_length_log_probs(self) -> Vec<f32> {
        match self {
            Self::Lengths(log_probs) => log_probs,
            Self::Slots { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
