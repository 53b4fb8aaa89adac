//! What a network is: its shape, and the ways in which one transformer differs from another.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The shape of a CMLM: an encoder, a decoder that reads a whole canvas, one tied vocabulary matrix.
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
    /// Classes of the length head.
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

/// What is not written in a file is as it was before there was a choice.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a class of the length head says. Lengths count bos and eos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// Class c of C: the target is c - C / 2 tokens longer than the source.
    #[default]
    Offset,
    /// Class c: the target has c tokens.
    Absolute,
}

impl Lengths {
    /// The class of a target length, clamped to those there are.
    pub fn class(self, source: usize, target: usize, classes: usize) -> u32 {
        let class = match self {
            Self::Offset => (target + classes / 2).saturating_sub(source),
            Self::Absolute => target,
        };
        class.min(classes - 1) as u32
    }

    /// The scores of all classes as scores of inner target lengths 0..=limit (without bos and eos) for a
    /// source of so many tokens; minus infinity where there is no class.
    pub fn inner_scores(self, classes: &[f32], source: usize, limit: usize) -> Vec<f32> {
        let shift = match self {
            Self::Offset => source as isize - classes.len() as isize / 2 - 2,
            Self::Absolute => -2,
        };
        (0..=limit as isize)
            .map(|inner| usize::try_from(inner - shift).ok().and_then(|c| classes.get(c)).copied())
            .map(|score| score.unwrap_or(f32::NEG_INFINITY))
            .collect()
    }
}

/// Where a layer's norms stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// In front of each sublayer, and one after the last layer: x + f(norm(x)).
    #[default]
    Pre,
    /// After each sublayer's sum: norm(x + f(x)) (Vaswani et al. 2017).
    Post,
}

/// How a token and its place become a vector. E is the token's row, P the place's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// √d · (E + P)
    #[default]
    Scaled,
    /// E + P
    Unscaled,
    /// W · [E; P] + b, with a W of its own in encoder and decoder (CMLMC, Huang et al. 2022).
    Concat,
}

/// What a place on the canvas sees of the canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderAttention {
    /// All of it.
    #[default]
    Whole,
    /// All of it in one more self-attention in front of each layer, and then itself and what stands before
    /// it. So masks differ by what precedes them (CMLMC, Huang et al. 2022).
    WholeThenCausal,
}

/// What a decoding pass may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// Masked places.
    #[default]
    Masked,
    /// Every place, pinned ones aside, with its score: for networks that were trained to correct what
    /// stands on the canvas (CMLMC, Huang et al. 2022).
    All,
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

    /// # Errors
    /// [`Error::Model`] where `row` cannot be embedded: it is empty, beyond `max_positions`, or holds an id
    /// that the vocabulary has not.
    pub(super) fn check_row(&self, row: &[u32]) -> Result<()> {
        if row.is_empty() || row.len() > self.max_positions {
            let (len, limit) = (row.len(), self.max_positions);
            return Err(Error::Model(format!("a row of {len} tokens, where 1 to {limit} are possible")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_class_is_a_translation_as_long_as_its_source() {
        let classes: Vec<f32> = (0..8).map(|c| -(c as f32)).collect();
        let scores = Lengths::Offset.inner_scores(&classes, 6, 12); // 4 words
        assert_eq!(scores[4], -4.0);
        assert_eq!(scores[0], 0.0);
        assert_eq!(scores[7], -7.0);
        assert_eq!(scores[8], f32::NEG_INFINITY);
        assert_eq!(scores.len(), 13);
    }

    #[test]
    fn an_absolute_class_is_the_length_of_the_target() {
        let classes: Vec<f32> = (0..8).map(|c| -(c as f32)).collect();
        let scores = Lengths::Absolute.inner_scores(&classes, 100, 12);
        assert_eq!(scores[..6], [-2.0, -3.0, -4.0, -5.0, -6.0, -7.0]);
        assert_eq!(scores[6], f32::NEG_INFINITY);
    }

    #[test]
    fn a_length_has_the_class_that_scores_it() {
        for lengths in [Lengths::Offset, Lengths::Absolute] {
            for (source, target) in [(6, 8), (9, 3), (5, 12)] {
                let class = lengths.class(source, target, 16) as usize;
                let mut classes = vec![-1.0; 16];
                classes[class] = 0.0;
                assert_eq!(lengths.inner_scores(&classes, source, 12)[target - 2], 0.0);
            }
            assert_eq!(lengths.class(5, 99, 16), 15);
        }
        assert_eq!(Lengths::Offset.class(99, 5, 16), 0);
    }

    #[test]
    fn a_plain_shape_is_written_as_it_always_was_and_a_choice_that_is_unknown_is_refused() {
        let plain = serde_json::to_string(&Shape::default()).unwrap();
        assert!(plain.ends_with("\"length_classes\":128}"), "{plain}");
        assert_eq!(serde_json::from_str::<Shape>(&plain).unwrap(), Shape::default());

        let shape = Shape {
            norm: NormPlace::Post,
            positions: Positions::Concat,
            decoder_attention: DecoderAttention::WholeThenCausal,
            refresh: Refresh::All,
            lengths: Lengths::Absolute,
            ..Shape::default()
        };
        let written = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<Shape>(&written).unwrap(), shape);
        let wrong = written.replace("whole_then_causal", "sideways");
        let error = serde_json::from_str::<Shape>(&wrong).unwrap_err().to_string();
        assert!(error.contains("sideways") && error.contains("whole_then_causal"), "{error}");
    }
}
