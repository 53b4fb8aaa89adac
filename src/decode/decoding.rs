//! How a network translates: in how many steps, or with what beam.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Steps;

/// How a network translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// In this number of parallel passes.
    Steps(Steps),
    /// Left to right, with a beam of this width.
    Beam(usize),
}

impl Decoding {
    /// Suffix of a score's name after `@`, such as `4` or `beam4`.
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
