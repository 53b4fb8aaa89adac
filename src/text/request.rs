//! Requests of a text to a network, and their answers.

/// How hard the network should try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    Usual,
    /// More steps, and more lengths: the first answer was not good enough.
    More,
}

/// A source for the network: `bos x1..xn eos`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub source: Vec<u32>,
    pub effort: Effort,
}

/// One of the network's answers, without bos and eos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    pub tokens: Vec<u32>,
    /// Mean log-probability of its tokens.
    pub score: f32,
}

/// A warning about a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// Much shorter than its source, after all attempts.
    Short,
    /// Much longer.
    Long,
    /// Translated in pieces between its protected spans.
    Split,
    /// The network gives its tokens little probability.
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
