//! Requests to a network, and its answers.

/// The amount of decoding for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    Usual,
    /// More steps and more lengths, if the first answer was not good enough.
    More,
}

/// A source for the network: `bos x1..xn eos`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub source: Vec<u32>,
    pub effort: Effort,
}

/// A translation by the network, without bos and eos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    pub tokens: Vec<u32>,
    /// Mean log-probability of its tokens.
    pub score: f32,
}

/// A warning about a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The translation is much shorter than its source, after all attempts.
    Short,
    /// The translation is much longer than its source.
    Long,
    /// The text was translated in pieces between its protected spans.
    Split,
    /// The network gives the translation a low probability.
    Uncertain,
}

impl Warning {
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Split => "split",
            Self::Uncertain => "uncertain",
        }
    }
}
