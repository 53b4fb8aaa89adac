//! Which lines of a text are used, and what happens with the others.

use serde::{Deserialize, Serialize};

/// What happens with a line that is empty, not UTF-8 or too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadLine {
    #[default]
    Error,
    /// Skip the pair and count it.
    Skip,
}

/// The largest length of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLimit {
    /// Tokens of a sentence, `bos` and `eos` included.
    pub tokens: usize,
    /// Whether a target has to fit the slots of its source (an Imputer's).
    pub in_slots: bool,
}

impl LengthLimit {
    pub fn tokens(tokens: usize) -> Self {
        Self { tokens, in_slots: false }
    }
}
