//! Settings of `train run` (`[pipeline]`): the stages of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// In the order of [`StageName`]. The output of a stage that is left out must exist already.
    pub stages: Vec<StageName>,
}

/// The stages, in the order of their dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Tokenizer,
    Ar,
    /// If a run has this stage, later ones train on the distilled text.
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
    /// # Errors
    /// What is wrong with `stages`.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("pipeline.stages is empty; name at least one stage".into());
        }
        match self.stages.windows(2).find(|pair| pair[0] >= pair[1]) {
            None => Ok(()),
            Some(pair) if pair[0] == pair[1] => Err(format!("pipeline.stages names {} twice", pair[0])),
            Some(pair) => {
                Err(format!("pipeline.stages has {} before {}, which must come first", pair[0], pair[1]))
            }
        }
    }
}
