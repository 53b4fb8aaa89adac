//! The interface between decoding and the network. The engine, [`translate`](super::translate) and evaluation work
//! with any [`Translator`]; tests implement it without weights.

use std::fmt;
use std::num::NonZeroU8;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::{LanguageModel, LengthPrediction, Lengths, Refresh, Shape, TOP_K};
use crate::text::Specials;

/// Number of decoder passes of a translation, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steps(NonZeroU8);

impl Steps {
    pub const ONE: Self = Self(NonZeroU8::MIN);

    pub fn new(steps: u8) -> Option<Self> {
        NonZeroU8::new(steps).map(Self)
    }

    pub fn get(self) -> usize {
        usize::from(self.0.get())
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Input and output limits of a network, in tokens with bos and eos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub source_tokens: usize,
    /// For an Imputer: slots.
    pub target_tokens: usize,
    /// Whether the model is an Imputer (CTC): its canvas holds slots, equal neighbours collapse to one token, and
    /// blanks separate true repeats.
    pub has_blanks: bool,
}

impl Limits {
    pub fn of(shape: &Shape) -> Self {
        let (source_tokens, target_tokens) = (shape.source_limit(), shape.max_positions);
        Self { source_tokens, target_tokens, has_blanks: shape.has_blanks() }
    }

    /// Default number of lengths to try: two are better than one, but an Imputer needs no exact length.
    pub fn default_length_beam(&self) -> usize {
        if self.has_blanks { 1 } else { 2 }
    }

    /// Estimated canvas length, in tokens, for a source of `source` tokens, before the network has predicted one.
    pub fn estimated_canvas_len(&self, source: usize) -> usize {
        let target = if self.has_blanks { Lengths::SLOTS_PER_TOKEN.saturating_mul(source) } else { source };
        target.min(self.target_tokens)
    }
}

/// The properties of a network that decoding depends on.
#[derive(Clone, Debug, Default)]
pub struct DecodingRules {
    pub specials: Specials,
    /// Which positions a pass rewrites.
    pub refresh: Refresh,
    /// Language model for the prefix search over an Imputer's slots.
    pub lm: Option<Arc<LanguageModel>>,
}

/// The output of the encoder for one sentence.
#[derive(Debug)]
pub struct Encoded<M> {
    /// What decoder passes read, such as keys and values. Only the network looks inside.
    pub memory: M,
    /// The predicted lengths (at most `limits().target_tokens - 1` entries), or an Imputer's number of slots (at most
    /// `limits().target_tokens`).
    pub length_prediction: LengthPrediction,
}

/// One canvas of a decoder pass.
#[derive(Debug)]
pub struct Row<'a, M> {
    pub memory: &'a M,
    /// `bos, inner tokens or masks …, eos`; for an Imputer only the slots.
    pub canvas: &'a [u32],
    /// Indices into `canvas`, ascending, of the positions to predict.
    pub wanted: &'a [usize],
    /// Whether to return the [`TOP_K`] best tokens of each wanted position instead of the best one: for the prefix
    /// search over an Imputer's slots.
    pub top_k: bool,
}

impl<M> Row<'_, M> {
    /// Number of predictions for this row.
    pub fn prediction_count(&self) -> usize {
        self.wanted.len() * if self.top_k { TOP_K } else { 1 }
    }
}

/// A token for one position and its log-probability over the vocabulary without special tokens, or over the candidates
/// of the sentence if the network has a shortlist. In an Imputer's slot the token may be the blank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub token: u32,
    pub log_prob: f32,
}

impl From<(u32, f32)> for Prediction {
    fn from((token, log_prob): (u32, f32)) -> Self {
        Self { token, log_prob }
    }
}

/// A network that translates in passes.
///
/// The result for a row must not depend on the other rows of the call, bit for bit. Ties between tokens go to the
/// lower id.
pub trait Translator: Send + 'static {
    /// The encoder's output for one sentence, and other values that decoder passes reuse.
    type Memory: Send + 'static;

    fn limits(&self) -> Limits;

    fn specials(&self) -> Specials;

    /// Which positions a pass rewrites: the masked ones, unless the network was trained to correct others.
    fn refresh(&self) -> Refresh {
        Refresh::Masked
    }

    /// Language model for the prefix search over an Imputer's slots.
    fn lm(&self) -> Option<&Arc<LanguageModel>> {
        None
    }

    fn rules(&self) -> DecodingRules {
        DecodingRules { specials: self.specials(), refresh: self.refresh(), lm: self.lm().cloned() }
    }

    /// Encodes sentences (`bos x1..xn eos`, each within [`limits`](Self::limits)). Returns one result for each, in
    /// order.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`](crate::Error::DeviceMemory) if device memory is short: fewer sentences, or the same
    /// ones after others were dropped, may fit. After any other error the network must not be used again.
    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<Self::Memory>>>;

    /// Runs one decoder pass over all rows. Returns, for each row, the best prediction for each wanted position, in
    /// order, or the [`TOP_K`] best, best first, if [`Row::top_k`] is set. If the vocabulary has fewer tokens,
    /// log-probabilities of minus infinity fill the rest.
    fn decode(&self, rows: &[Row<'_, Self::Memory>]) -> Result<Vec<Vec<Prediction>>>;
}

/// Distributes predictions to rows. `positions` holds the best tokens of each wanted position of all rows, in order;
/// each row gets one of them, or [`TOP_K`] if [`Row::top_k`] is set.
pub(super) fn predictions_by_row<'a, M>(
    rows: &[Row<'_, M>],
    mut positions: impl Iterator<Item = &'a [(u32, f32)]>,
) -> Vec<Vec<Prediction>> {
    let of_row = |row: &Row<'_, M>| {
        let each = if row.top_k { TOP_K } else { 1 };
        let own = positions.by_ref().take(row.wanted.len()).flat_map(|top| &top[..each.min(top.len())]);
        own.copied().map(Prediction::from).collect()
    };
    rows.iter().map(of_row).collect()
}

#[cfg(test)]
mod tests;
