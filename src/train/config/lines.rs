//! Which lines of a text are used, and what happens to the others.

use serde::{Deserialize, Serialize};

/// What happens to a line that is empty, not UTF-8 or too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadLine {
    #[default]
    Error,
    /// The pair is skipped and counted.
    Skip,
}

/// The largest length of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLimit {
    /// Tokens, bos and eos included.
    pub tokens: usize,
    /// Whether a target must also fit the slots of its source, for an Imputer.
    pub in_slots: bool,
}

impl LengthLimit {
    pub fn tokens(tokens: usize) -> Self {
        Self { tokens, in_slots: false }
    }
}
