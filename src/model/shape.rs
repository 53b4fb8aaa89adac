//! The shape of a network, and the variants of transformers.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{LengthPrediction, Lengths, TOP_K};
use crate::text::Specials;
use crate::{Error, Result};

/// The shape of a network: an encoder, a decoder and one vocabulary matrix for input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    pub d_model: usize,
    pub ffn: usize,
    pub heads: usize,
    pub vocab: usize,
    /// Longest sentence on either side in tokens, bos and eos included; for an Imputer, the largest number of slots.
    pub max_positions: usize,
    /// Classes of the length head; 0 for an Imputer, which has none.
    pub length_classes: usize,
    #[serde(default, skip_serializing_if = "is_default")]
    pub lengths: Lengths,
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: NormPlace,
    #[serde(default, skip_serializing_if = "is_default")]
    pub positions: Positions,
    #[serde(default, skip_serializing_if = "is_default")]
    pub decoder_attention: DecoderAttention,
    #[serde(default, skip_serializing_if = "is_default")]
    pub refresh: Refresh,
}

/// Keys that equal their default are left out, so that older files stay valid.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Position of the norm of each sublayer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before each sublayer, and once after the last layer: x + f(norm(x)).
    #[default]
    Pre,
    /// After each residual sum: norm(x + f(x)) (Vaswani et al. 2017).
    Post,
}

/// How token embedding E and position embedding P are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// √d · (E + P)
    #[default]
    Scaled,
    /// E + P
    Unscaled,
    /// W · [E; P] + b, with separate W in encoder and decoder (CMLMC, Huang et al. 2022).
    Concat,
}

/// Which positions of the canvas a position attends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderAttention {
    /// All positions.
    #[default]
    Whole,
    /// All positions in an additional self-attention before each layer; then, in the layer's own, itself and those
    /// before it. So masks differ by what precedes them (CMLMC, Huang et al. 2022).
    WholeThenCausal,
}

/// Which positions a decoding pass rewrites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// The masked ones.
    #[default]
    Masked,
    /// All of them, with their scores: for networks that were trained to correct tokens (CMLMC, Huang et al. 2022).
    All,
}

impl Shape {
    const MAX_LAYERS: usize = 64;
    const MAX_WIDTH: usize = 1 << 14;
    const MAX_VOCAB: usize = 1 << 20;
    const MAX_POSITIONS: usize = 1 << 12;
    /// A bias that makes a token impossible, without a gradient to change it. Fits f16.
    const NEVER: f32 = -1e4;

    /// Rejects invalid shapes, and sizes that would exhaust memory.
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
        match self.lengths {
            Lengths::Offset | Lengths::Absolute => {
                in_range("length_classes", self.length_classes, 2, 2 * Self::MAX_POSITIONS)?;
            }
            Lengths::Ctc => {
                in_range("length_classes", self.length_classes, 0, 0)?;
                // Room for one word between bos and eos.
                in_range(
                    "max_positions",
                    self.max_positions,
                    3 * Lengths::SLOTS_PER_TOKEN,
                    Self::MAX_POSITIONS,
                )?;
            }
        }
        if self.lengths == Lengths::Ctc && self.refresh == Refresh::All {
            let reason = "model.refresh = all: an Imputer's slots (model.lengths = ctc) are filled only once";
            return Err(Error::Config(reason.into()));
        }
        if !self.d_model.is_multiple_of(self.heads) || !(self.d_model / self.heads).is_multiple_of(8) {
            return Err(Error::Config(format!(
                "model.d_model = {} over model.heads = {}: each head needs a width that is a multiple of 8",
                self.d_model, self.heads
            )));
        }
        Ok(())
    }

    /// Whether the model is an Imputer (CTC), whose output contains blanks.
    pub fn has_blanks(&self) -> bool {
        self.lengths == Lengths::Ctc
    }

    /// Ids below this one are never predicted. The mask of an Imputer has a higher id than its blank;
    /// `initial_output_bias` makes it improbable.
    pub fn forbidden(&self) -> usize {
        if self.has_blanks() { Specials::default().blank() as usize } else { Specials::NAMES.len() }
    }

    /// Number of tokens that a GPU returns for each wanted position.
    pub fn top_k(&self) -> usize {
        if self.has_blanks() { TOP_K } else { 1 }
    }

    /// Initial bias of the output layer.
    pub(super) fn initial_output_bias(&self) -> Vec<f32> {
        let mut bias = vec![0.0; self.vocab];
        if self.has_blanks() {
            bias[Specials::default().mask as usize] = Self::NEVER;
        }
        bias
    }

    /// Longest source in tokens, bos and eos included.
    pub fn source_limit(&self) -> usize {
        if self.has_blanks() { self.max_positions / Lengths::SLOTS_PER_TOKEN } else { self.max_positions }
    }

    /// Predicts the canvas length for a source of `source` tokens. `classes` are the log-probabilities of the length
    /// classes, if any.
    pub fn predict_length(&self, classes: &[f32], source: usize) -> LengthPrediction {
        match self.lengths {
            Lengths::Ctc => {
                LengthPrediction::Slots { count: Lengths::SLOTS_PER_TOKEN * source, max: self.max_positions }
            }
            lengths => {
                LengthPrediction::Lengths(lengths.inner_scores(classes, source, self.max_positions - 2))
            }
        }
    }

    /// # Errors
    /// [`Error::Model`] if `row` cannot be embedded: it is empty, longer than `max_positions`, or contains an id
    /// outside the vocabulary.
    pub(super) fn check_row(&self, row: &[u32]) -> Result<()> {
        if row.is_empty() || row.len() > self.max_positions {
            let (len, limit) = (row.len(), self.max_positions);
            return Err(Error::Model(format!("a row has {len} tokens; expected 1 to {limit}")));
        }
        match row.iter().find(|&&id| id as usize >= self.vocab) {
            None => Ok(()),
            Some(id) => Err(Error::Model(format!("token {id} is outside the vocabulary of {}", self.vocab))),
        }
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
            lengths: Lengths::default(),
            norm: NormPlace::default(),
            positions: Positions::default(),
            decoder_attention: DecoderAttention::default(),
            refresh: Refresh::default(),
        }
    }
}

/// `enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000[,positions=256][,imputer=1]`; keys may be left out.
impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut shape = Self::default();
        let mut imputer = 0;
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| Error::Config(format!("shape: {part:?} is not key=number")))?;
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
                "imputer" => &mut imputer,
                other => {
                    return Err(Error::Config(format!(
                        "shape: unknown key {other:?}; expected enc, dec, d, ffn, heads, vocab, positions or imputer"
                    )));
                }
            };
            *slot = value;
        }
        match imputer {
            0 => {}
            1 => (shape.lengths, shape.length_classes) = (Lengths::Ctc, 0),
            other => return Err(Error::Config(format!("shape: imputer is {other}; expected 0 or 1"))),
        }
        shape.validate()?;
        Ok(shape)
    }
}

#[cfg(test)]
mod tests;
