//! Settings of `train run` (`[pipeline]`): the stages of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys;

/// Stages that were renamed, as pairs of old and new name. The old names work for one more version.
const RENAMED: [(&str, &str); 1] = [("cmlm", "parallel")];

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
    #[serde(alias = "cmlm")]
    Parallel,
    Dims,
}

impl StageName {
    pub const ALL: [Self; 5] = [Self::Tokenizer, Self::Ar, Self::Distill, Self::Parallel, Self::Dims];

    /// The name that older versions wrote, if it was another one.
    pub fn old_name(self) -> Option<&'static str> {
        let name = self.to_string();
        RENAMED.into_iter().find(|(_, new)| *new == name).map(|(old, _)| old)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Tokenizer => "tokenizer",
            Self::Ar => "ar",
            Self::Distill => "distill",
            Self::Parallel => "parallel",
            Self::Dims => "dims",
        })
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self { stages: StageName::ALL.to_vec() }
    }
}

/// A warning for each old name in `pipeline.stages`.
pub(super) fn warnings(file: &toml::Table) -> Vec<String> {
    let stages = file.get("pipeline").and_then(|section| section.get("stages")?.as_array());
    let mut warnings = Vec::new();
    for (old, new) in RENAMED {
        if stages.is_some_and(|stages| stages.contains(&toml::Value::from(old))) {
            warnings.push(format!("pipeline.stages: {}", keys::renamed(old, new)));
        }
    }
    warnings
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
