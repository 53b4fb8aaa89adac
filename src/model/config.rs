//! What a network is: its shape and its limits, as `config.json` of a bundle records them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::Specials;
use crate::{Error, Result};

/// The shape of a CMLM: an encoder, a decoder without causal mask, one tied vocabulary matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    pub d_model: usize,
    pub ffn: usize,
    pub heads: usize,
    pub vocab: usize,
    /// Positions of a sentence on either side, bos and eos included.
    pub max_positions: usize,
    /// Classes of the length head; class c means `target = source + c - classes / 2` tokens.
    pub length_classes: usize,
}

impl Shape {
    const MAX_LAYERS: usize = 64;
    const MAX_WIDTH: usize = 1 << 14;
    const MAX_VOCAB: usize = 1 << 20;
    const MAX_POSITIONS: usize = 1 << 12;

    /// Refuses what no network can be made of, and sizes that only a hostile file would name.
    pub fn validate(&self) -> Result<()> {
        let in_range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Config(format!("model.{name} = {value}: must be between {low} and {high}")))
            }
        };
        in_range("encoder_layers", self.encoder_layers, 1, Self::MAX_LAYERS)?;
        in_range("decoder_layers", self.decoder_layers, 1, Self::MAX_LAYERS)?;
        in_range("d_model", self.d_model, 8, Self::MAX_WIDTH)?;
        in_range("ffn", self.ffn, 8, 4 * Self::MAX_WIDTH)?;
        in_range("heads", self.heads, 1, self.d_model / 8)?;
        in_range("vocab", self.vocab, 16, Self::MAX_VOCAB)?;
        in_range("max_positions", self.max_positions, 4, Self::MAX_POSITIONS)?;
        in_range("length_classes", self.length_classes, 2, 2 * Self::MAX_POSITIONS)?;
        if !self.d_model.is_multiple_of(self.heads) || !(self.d_model / self.heads).is_multiple_of(8) {
            return Err(Error::Config(format!(
                "model.d_model = {} over model.heads = {}: each head needs a width that is a multiple of 8",
                self.d_model, self.heads
            )));
        }
        Ok(())
    }
}

impl Default for Shape {
    /// The default model: small enough for a CPU.
    fn default() -> Self {
        Self {
            encoder_layers: 3,
            decoder_layers: 3,
            d_model: 256,
            ffn: 1024,
            heads: 4,
            vocab: 8000,
            max_positions: 256,
            length_classes: 128,
        }
    }
}

/// `enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000[,positions=256]`; what is left out is the default.
impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut shape = Self::default();
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| Error::Config(format!("shape: {part:?} is not of the form key=number")))?;
            let value: usize = value
                .trim()
                .parse()
                .map_err(|_| Error::Config(format!("shape: {value:?} is not a number")))?;
            let slot = match key.trim() {
                "enc" => &mut shape.encoder_layers,
                "dec" => &mut shape.decoder_layers,
                "d" => &mut shape.d_model,
                "ffn" => &mut shape.ffn,
                "heads" => &mut shape.heads,
                "vocab" => &mut shape.vocab,
                "positions" => &mut shape.max_positions,
                other => {
                    return Err(Error::Config(format!(
                        "shape: unknown key {other:?}; known are enc, dec, d, ffn, heads, vocab, positions"
                    )));
                }
            };
            *slot = value;
        }
        shape.validate()?;
        Ok(shape)
    }
}

/// How a network's decoder reads its target; the tensors are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Architecture {
    /// The whole canvas at once: conditional masked language model.
    Cmlm,
    /// From left to right: a teacher for `train`, which the server does not run.
    Ar,
}

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        [Self::Cmlm, Self::Ar].into_iter().find(|known| known.name() == name).ok_or_else(|| {
            format!("architecture {name:?} is unknown; this program knows \"cmlm\" and \"ar\"")
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
}

impl Config {
    pub const FORMAT: u32 = 1;

    pub fn new(shape: Shape, source: &str, target: &str) -> Self {
        Self {
            format: Self::FORMAT,
            architecture: Architecture::Cmlm,
            shape,
            specials: Specials::default(),
            source: source.into(),
            target: target.into(),
            default_steps: 4,
            max_steps: 20,
            scores: Vec::new(),
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
            if code.is_empty()
                || code.len() > 16
                || !code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            {
                return Err(Error::Config(format!("{code:?} is not a language code")));
            }
        }
        if self.specials != Specials::default() {
            return Err(Error::Config("specials must be pad 0, bos 1, eos 2, unk 3, mask 4".into()));
        }
        self.shape.validate()
    }
}
