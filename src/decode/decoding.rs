//! How a text is decoded: with a number of steps or a beam width.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Steps;

/// How a network is made to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// In so many parallel passes.
    Steps(Steps),
    /// From left to right, with so many candidates.
    Beam(usize),
}

impl Decoding {
    /// What follows the `@` in the name of a score: `4`, `beam4`.
    pub fn tag(self) -> String {
        match self {
            Self::Steps(steps) => steps.to_string(),
            Self::Beam(beam) => format!("beam{beam}"),
        }
    }
}

impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) if *steps == Steps::ONE => write!(f, "1 step"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Beam(beam) => write!(f, "beam {beam}"),
        }
    }
}
