//! The interface between decoding and the network. The engine, [`translate`](super::translate) and evaluation work with any
//! [`Translator`]; tests use one without weights.

use std::fmt;
use std::num::NonZeroU8;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::{LanguageModel, LengthPrediction, Lengths, Refresh, Shape, TOP_K};
use crate::text::Specials;

/// How many decoder passes a translation may take. T steps are T passes.
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

/// What the network can hold, in tokens with bos and eos, and what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub source_tokens: usize,
    /// Of an Imputer: slots.
    pub target_tokens: usize,
    /// Whether it is an Imputer: its canvases are slots. What it says in neighbouring slots it means once, what it
    /// means twice a blank sets apart.
    pub has_blanks: bool,
}

impl Limits {
    pub fn of(shape: &Shape) -> Self {
        let (source_tokens, target_tokens) = (shape.source_limit(), shape.max_positions);
        Self { source_tokens, target_tokens, has_blanks: shape.has_blanks() }
    }

    /// Default number of canvases: two lengths are better than one, but an Imputer needs no length.
    pub fn usual_beam(&self) -> usize {
        if self.has_blanks { 1 } else { 2 }
    }

    /// Tokens of a canvas for a source of so many, as far as can be said before the network has predicted its length.
    pub fn expected(&self, source: usize) -> usize {
        let target = if self.has_blanks { Lengths::SLOTS_PER_TOKEN.saturating_mul(source) } else { source };
        target.min(self.target_tokens)
    }
}

/// What a network's canvases go by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub specials: Specials,
    /// What a pass may write.
    pub refresh: Refresh,
    /// The language model that an Imputer's slots are read with, if any.
    pub lm: Option<Arc<LanguageModel>>,
}

/// One sentence after the encoder.
#[derive(Debug)]
pub struct Encoded<M> {
    /// What decoder passes read: opaque to everyone but the network.
    pub memory: M,
    /// What canvases it may begin with: lengths, at most `limits().target_tokens - 1` entries, or slots, at
    /// most `limits().target_tokens`.
    pub outline: LengthPrediction,
}

/// One canvas for a decoder pass.
#[derive(Debug)]
pub struct Row<'a, M> {
    pub memory: &'a M,
    /// `bos, inner tokens or masks …, eos`; of an Imputer its slots alone.
    pub canvas: &'a [u32],
    /// The positions in `canvas`, ascending, whose prediction is wanted.
    pub wanted: &'a [usize],
    /// Whether the translation is one of a single pass. A network may then choose among fewer words: what is
    /// likely is known from the source, and no later pass compares the scores.
    pub one_step: bool,
    /// Whether of each wanted place the [`TOP_K`] best tokens are asked for, not the best alone: in those passes of an
    /// Imputer whose slots are read together.
    pub choices: bool,
}

impl<M> Row<'_, M> {
    /// Predictions that answer it.
    pub fn answers(&self) -> usize {
        self.wanted.len() * if self.choices { TOP_K } else { 1 }
    }
}

/// A token for one place and its log-probability, over the vocabulary without specials; of an Imputer's slot
/// perhaps the blank.
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

/// A network that translates in passes. What it answers for a row must not depend on the other rows
/// of the call, bit for bit. Ties between tokens go to the lower id.
pub trait Translator: Send + 'static {
    /// The encoder's output for one sentence, and whatever else its passes reuse.
    type Memory: Send;

    fn limits(&self) -> Limits;

    fn specials(&self) -> Specials;

    /// What a pass may write: masked places alone, unless the network was trained to correct others.
    fn refresh(&self) -> Refresh {
        Refresh::Masked
    }

    /// The language model that an Imputer's slots are read with, if any.
    fn lm(&self) -> Option<&Arc<LanguageModel>> {
        None
    }

    fn rules(&self) -> Rules {
        Rules { specials: self.specials(), refresh: self.refresh(), lm: self.lm().cloned() }
    }

    /// Encodes sentences (`bos x1..xn eos`, each within `limits`), one answer for each, in order.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`](crate::Error::DeviceMemory) where there is no room for what is kept of so many: fewer,
    /// or the same after others have been dropped, may fit. Whatever else fails is the end of the network.
    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<Self::Memory>>>;

    /// One pass over every row; for each row, the best prediction for each wanted position, in order, or the
    /// [`TOP_K`] best of each, best first, where the row asks for them. A vocabulary of fewer tokens fills the rest
    /// with log-probabilities of minus infinity.
    fn decode(&self, rows: &[Row<'_, Self::Memory>]) -> Result<Vec<Vec<Prediction>>>;
}

/// Of the best tokens of each wanted place of all `rows`, place after place, those that each row asks for.
pub(super) fn answers<'a, M>(
    rows: &[Row<'_, M>],
    mut places: impl Iterator<Item = &'a [(u32, f32)]>,
) -> Vec<Vec<Prediction>> {
    let answer = |row: &Row<'_, M>| {
        let each = if row.choices { TOP_K } else { 1 };
        let own = places.by_ref().take(row.wanted.len()).flat_map(|top| &top[..each.min(top.len())]);
        own.copied().map(Prediction::from).collect()
    };
    rows.iter().map(answer).collect()
}

#[cfg(test)]
mod tests;
