//! Target lengths: the classes of the length head, and what a network predicts before the first pass.

use serde::{Deserialize, Serialize};

/// Where a network says how long a translation is. Lengths count bos and eos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// In a length head. Class c of C: the target is c - C / 2 tokens longer than the source.
    #[default]
    Offset,
    /// In a length head. Class c: the target has c tokens.
    Absolute,
    /// In its output: the canvas has [`SLOTS_PER_TOKEN`](Self::SLOTS_PER_TOKEN) slots for each source token, and the
    /// translation is what is left of it without repeats and blanks (CTC, Graves et al. 2006; Imputer, Saharia
    /// et al. 2020).
    Ctc,
}

/// How many of a slot's tokens are looked at where an Imputer's slots are read together.
pub const TOP_K: usize = 4;

impl Lengths {
    /// Slots of an Imputer's canvas for each token of its source, bos and eos included.
    pub const SLOTS_PER_TOKEN: usize = 2;

    /// The class of a target length, clamped to those there are; 0 where there are none.
    pub fn class(self, source: usize, target: usize, classes: usize) -> u32 {
        let class = match self {
            Self::Offset => (target + classes / 2).saturating_sub(source),
            Self::Absolute => target,
            Self::Ctc => 0,
        };
        class.min(classes.saturating_sub(1)) as u32
    }

    /// The scores of all classes as scores of inner target lengths 0..=limit (without bos and eos) for a
    /// source of so many tokens; minus infinity where there is no class.
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

/// What canvases a sentence may begin with, as the network says when it has read the source.
#[derive(Clone, Debug, PartialEq)]
pub enum LengthPrediction {
    /// Log-probability of each inner target length: index `l` is a translation of `l` tokens without bos and
    /// eos; `-inf` where impossible.
    Lengths(Vec<f32>),
    /// So many slots, of which blanks fill some; at most so many have positions.
    Slots { count: usize, most: usize },
}

impl LengthPrediction {
    /// Of each inner target length; nothing where there are slots.
    pub fn into_length_log_probs(self) -> Vec<f32> {
        match self {
            Self::Lengths(log_probs) => log_probs,
            Self::Slots { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
