//! `config.json` of a bundle: architecture, languages, shape and scores of a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shape::{DecoderAttention, Refresh, Shape};
use crate::text::Specials;
use crate::{Error, Result};

/// How a network's decoder reads its target. All architectures share the names of their tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Architecture {
    /// The whole canvas at once: a conditional masked language model.
    Cmlm,
    /// The whole canvas at once, with CTC blanks: an Imputer.
    Imputer,
    /// Left to right: a teacher for `train`. The server does not run it.
    Ar,
}

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = [Self::Cmlm, Self::Imputer, Self::Ar];
        known.into_iter().find(|known| known.name() == name).ok_or_else(|| {
            let names = known.map(|known| format!("{:?}", known.name())).join(", ");
            format!("architecture {name:?} is unknown; expected one of {names}")
        })
    }
}

impl From<Architecture> for &'static str {
    fn from(architecture: Architecture) -> Self {
        architecture.name()
    }
}

impl Architecture {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cmlm => "cmlm",
            Self::Imputer => "imputer",
            Self::Ar => "ar",
        }
    }
}

/// `config.json` of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the layout of this file.
    pub format: u32,
    pub architecture: Architecture,
    pub shape: Shape,
    pub specials: Specials,
    /// Language codes (ISO 639-1) of the pair.
    pub source: String,
    pub target: String,
    /// Number of steps of a request that gives none.
    pub default_steps: u8,
    pub max_steps: u8,
    /// Quality measured by `train evaluate`, one entry for each number of steps.
    #[serde(default)]
    pub scores: Vec<super::Score>,
    /// SHA-256 of the bundle's files in hexadecimal, by file name. That of this file is computed without its own
    /// checksum. Empty in bundles of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Shows whether a machine computes this model correctly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownSentence>,
}

/// A sentence and its translation by this model, computed when the bundle was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSentence {
    pub source: String,
    pub steps: u8,
    pub translation: String,
}

impl Config {
    pub const FORMAT: u32 = 1;

    pub fn new(shape: Shape, source: &str, target: &str) -> Self {
        Self {
            format: Self::FORMAT,
            architecture: if shape.has_blanks() { Architecture::Imputer } else { Architecture::Cmlm },
            shape,
            specials: Specials::default(),
            source: source.into(),
            target: target.into(),
            default_steps: 4,
            max_steps: 20,
            scores: Vec::new(),
            files: BTreeMap::new(),
            known: None,
        }
    }

    /// The content of the file.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::Config(e.to_string()))?;
        Ok(format!("{json}\n"))
    }

    pub fn validate(&self) -> Result<()> {
        if self.format != Self::FORMAT {
            return Err(Error::Config(format!(
                "format {} is not supported; this program reads format {}",
                self.format,
                Self::FORMAT
            )));
        }
        if self.default_steps == 0 || self.default_steps > self.max_steps {
            return Err(Error::Config(format!(
                "default_steps = {} must be between 1 and max_steps = {}",
                self.default_steps, self.max_steps
            )));
        }
        for code in [&self.source, &self.target] {
            check_language(code).map_err(Error::Config)?;
        }
        if self.specials != Specials::default() {
            return Err(Error::Config("specials must be pad 0, bos 1, eos 2, unk 3, mask 4".into()));
        }
        let canvas_only = (DecoderAttention::default(), Refresh::default());
        if self.architecture == Architecture::Ar
            && (self.shape.decoder_attention, self.shape.refresh) != canvas_only
        {
            return Err(Error::Config(
                "an ar model has no canvas: leave out decoder_attention and refresh".into(),
            ));
        }
        let blanks = self.architecture == Architecture::Imputer;
        if blanks != self.shape.has_blanks() {
            let (kind, lengths) = (self.architecture.name(), self.shape.lengths);
            let reason = format!("shape.lengths = {lengths:?} in a model of architecture {kind:?}");
            return Err(Error::Config(format!("{reason}; an imputer has \"ctc\", other models do not")));
        }
        self.shape.validate()
    }
}

/// Checks the syntax of a language code: letters and digits, with `-` between the parts of a tag.
///
/// # Errors
/// The code, and what is expected.
pub fn check_language(code: &str) -> Result<(), String> {
    let fits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    if code.len() <= 16 && code.split('-').all(fits) {
        return Ok(());
    }
    Err(format!("{code:?} is not a language code such as en or pt-BR"))
}
