//! Settings of `train run` (`[pipeline]`): which stages a run has.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// In the order of [`StageName`]. What a stage that is left out would make must be there already.
    pub stages: Vec<StageName>,
}

/// The stages, in the order in which one needs the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Tokenizer,
    Ar,
    /// Where a run has this stage, those behind it are trained on the distilled text.
    Distill,
    Cmlm,
    Dims,
}

impl StageName {
    pub const ALL: [Self; 5] = [Self::Tokenizer, Self::Ar, Self::Distill, Self::Cmlm, Self::Dims];
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Tokenizer => "tokenizer",
            Self::Ar => "ar",
            Self::Distill => "distill",
            Self::Cmlm => "cmlm",
            Self::Dims => "dims",
        })
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self { stages: StageName::ALL.to_vec() }
    }
}

impl Pipeline {
    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("pipeline.stages is empty; there is nothing to run".into());
        }
        match self.stages.windows(2).find(|pair| pair[0] >= pair[1]) {
            None => Ok(()),
            Some(pair) if pair[0] == pair[1] => Err(format!("pipeline.stages names {} twice", pair[0])),
            Some(pair) => Err(format!("pipeline.stages has {} before {}, which needs it", pair[0], pair[1])),
        }
    }
}
