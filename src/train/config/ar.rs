//! Settings of `train ar` (`[ar]`): what differs from `[train]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Train;

/// The autoregressive teacher. A missing key has the value of `[train]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ar {
    /// Bundle whose weights a new run begins with: of the same shape and tokenizer, autoregressive or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Folder for checkpoints, log and bundle; by default `ar` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
}

impl Ar {
    pub fn output(&self, output: &Path) -> PathBuf {
        self.output.clone().unwrap_or_else(|| output.join("ar"))
    }

    /// The settings of `[train]`, overridden by those of this stage.
    pub fn train(&self, run: &Train) -> Train {
        Train {
            updates: self.updates.unwrap_or(run.updates),
            learning_rate: self.learning_rate.unwrap_or(run.learning_rate),
            warmup: self.warmup.unwrap_or(run.warmup),
            cooldown: self.cooldown.unwrap_or(run.cooldown),
            dropout: self.dropout.unwrap_or(run.dropout),
            ..run.clone()
        }
    }

    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self, run: &Train) -> Result<(), String> {
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        let Train { updates, learning_rate, warmup, cooldown, dropout, .. } = self.train(run);
        rule(updates > 0, "ar.updates is 0; it must be at least 1".into())?;
        rule(warmup > 0, "ar.warmup is 0; it must be at least 1".into())?;
        rule(cooldown <= updates, format!("ar.cooldown ({cooldown}) exceeds ar.updates ({updates})"))?;
        let fits = learning_rate > 0.0 && learning_rate.is_finite();
        rule(fits, format!("ar.learning_rate is {learning_rate}; it must be more than 0"))?;
        let fits = (0.0..1.0).contains(&dropout);
        rule(fits, format!("ar.dropout is {dropout}; it must lie in [0, 1)"))
    }
}
