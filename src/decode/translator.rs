//! The seam between decoding and the network. The engine, `translate` and `evaluate` drive any
//! [`Translator`]; tests drive a fake one without weights.

use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::{Outline, Refresh, Shape};
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

/// What the network can hold, in tokens with bos and eos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub source_tokens: usize,
    pub target_tokens: usize,
}

impl Limits {
    pub(super) fn of(shape: &Shape) -> Self {
        Self { source_tokens: shape.source_limit(), target_tokens: shape.max_positions }
    }
}

/// One sentence after the encoder.
#[derive(Debug)]
pub struct Encoded<M> {
    /// What decoder passes read: opaque to everyone but the network.
    pub memory: M,
    /// What canvases it may begin with: lengths, at most `limits().target_tokens - 1` entries, or slots, at
    /// most `limits().target_tokens`.
    pub outline: Outline,
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
}

/// The best token for one place and its log-probability, over the vocabulary without specials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub token: u32,
    pub log_prob: f32,
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

    /// Whether it is an Imputer: what it says side by side it means once, what it says twice stands apart.
    fn has_blanks(&self) -> bool {
        false
    }

    /// Encodes sentences (`bos x1..xn eos`, each within `limits`), one answer for each, in order.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`](crate::Error::DeviceMemory) where there is no room for what is kept of so many: fewer,
    /// or the same after others have been dropped, may fit. Whatever else fails is the end of the network.
    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<Self::Memory>>>;

    /// One pass over every row; for each row, one prediction for each wanted position, in order.
    fn decode(&self, rows: &[Row<'_, Self::Memory>]) -> Result<Vec<Vec<Prediction>>>;
}
