//! Settings of `train ar` (`[ar]`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Train;
use crate::keys::{at_least, at_most, below_one, positive};

/// The autoregressive teacher. A missing key has its value in `[train]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ar {
    /// Bundle with the initial weights of a new run, autoregressive or not; it may have fewer layers and another
    /// tokenizer, and may be an Imputer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Folder of checkpoints, log and bundle; by default `ar` in the run's output folder.
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

    /// The settings of `[train]`, overridden by those of this section.
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

    /// # Errors
    /// The first invalid key.
    pub(super) fn validate(&self, run: &Train) -> Result<(), String> {
        let Train { updates, learning_rate, warmup, cooldown, dropout, .. } = self.train(run);
        at_least("ar.updates", updates, 1)?;
        at_least("ar.warmup", warmup, 1)?;
        at_most("ar.cooldown", cooldown, "ar.updates", updates)?;
        positive("ar.learning_rate", learning_rate)?;
        below_one("ar.dropout", dropout)
    }
}
