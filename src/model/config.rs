//! `config.json` of a bundle: architecture, languages, shape and scores of a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shape::{DecoderAttention, Refresh, Shape};
use crate::text::Specials;
use crate::{Error, Result};

/// How a network's decoder reads its target; the tensors are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Architecture {
    /// The whole canvas at once: conditional masked language model.
    Cmlm,
    /// The whole canvas at once, with blanks between the tokens: Imputer, or a CTC model.
    Imputer,
    /// From left to right: a teacher for `train`, which the server does not run.
    Ar,
}

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = [Self::Cmlm, Self::Imputer, Self::Ar];
        known.into_iter().find(|known| known.name() == name).ok_or_else(|| {
            let names = known.map(|known| format!("{:?}", known.name())).join(", ");
            format!("architecture {name:?} is unknown; this program knows {names}")
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
    /// Version of this file's layout.
    pub format: u32,
    pub architecture: Architecture,
    pub shape: Shape,
    pub specials: Specials,
    /// Language codes (ISO 639-1) of the pair.
    pub source: String,
    pub target: String,
    /// Decoding steps of a request that names none.
    pub default_steps: u8,
    pub max_steps: u8,
    /// Quality as measured by `train evaluate`, one entry a step count.
    #[serde(default)]
    pub scores: Vec<super::Score>,
    /// SHA-256 of the bundle's files in hex, by name: of those that a translation depends on. This file's own is
    /// that of its text without it. Empty in bundles of older programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What shows whether a machine computes this model as it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownSentence>,
}

/// A sentence, and what the model made of it where the bundle was made.
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

    /// As it stands in the file.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::Config(e.to_string()))?;
        Ok(format!("{json}\n"))
    }

    pub fn validate(&self) -> Result<()> {
        if self.format != Self::FORMAT {
            return Err(Error::Config(format!(
                "format {} is not the format {} that this program reads",
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
            return Err(Error::Config("an ar model has no canvas to attend to or to refresh".into()));
        }
        let blanks = self.architecture == Architecture::Imputer;
        if blanks != self.shape.has_blanks() {
            let (kind, lengths) = (self.architecture.name(), self.shape.lengths);
            let reason = format!("shape.lengths = {lengths:?} in a model of architecture {kind:?}");
            return Err(Error::Config(format!("{reason}; an imputer, and no other, has \"ctc\"")));
        }
        self.shape.validate()
    }
}

/// Whether a bundle may name a language so: letters and digits, with `-` between the parts of a tag.
///
/// # Errors
/// The code, and what it should be.
pub fn check_language(code: &str) -> Result<(), String> {
    let fits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    if code.len() <= 16 && code.split('-').all(fits) {
        return Ok(());
    }
    Err(format!("{code:?} is not a language code such as en or pt-BR"))
}
