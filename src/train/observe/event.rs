//! The events of a run, for the log and for TensorBoard.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::decode::Decoding;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Start(Start),
    Train(Train),
    Skip(Skip),
    Valid(Valid),
    Checkpoint(Saved),
    Stop(Stop),
}

/// A run starts, or continues after `update` updates.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub update: u64,
    pub config_digest: String,
    pub parameters: usize,
    pub pairs: usize,
    pub skipped: Skipped,
    /// Corpora of a mixture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<Share>,
    pub device: String,
    /// Floating-point operations per second of a large matrix product; see `update::rate::LargeProduct`.
    pub matrix_rate: f64,
}

/// Numbers of skipped pairs, by the first reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub empty: usize,
    pub invalid_utf8: usize,
    pub too_long: usize,
    /// For an Imputer: targets that do not fit the slots of their sources.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unaligned: usize,
    /// Pairs beyond `max_repeats` or `max_pairs` of their corpus.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surplus: usize,
}

/// The share of a corpus in an epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub name: String,
    /// Number of usable pairs.
    pub pairs: usize,
    /// Number of pairs sampled in an epoch, repeats included.
    pub sampled: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Skipped {
    pub fn total(&self) -> usize {
        self.empty + self.invalid_utf8 + self.too_long + self.unaligned + self.surplus
    }

    pub fn add(&mut self, other: &Self) {
        self.empty += other.empty;
        self.invalid_utf8 += other.invalid_utf8;
        self.too_long += other.too_long;
        self.unaligned += other.unaligned;
        self.surplus += other.surplus;
    }
}

/// Means over the updates since the last event.
#[derive(Clone, Debug, Serialize)]
pub struct Train {
    pub update: u64,
    pub epoch: u64,
    /// Loss in nats per masked token: label-smoothed cross entropy, or divergence from a teacher.
    pub loss: f64,
    /// Distance to a teacher's hidden states, per masked token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_loss: Option<f64>,
    /// Loss of the length head in nats per sentence, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_loss: Option<f64>,
    pub gradient_norm: f64,
    pub learning_rate: f64,
    /// Target tokens, without padding.
    pub tokens_per_second: f64,
    /// Speed of the updates' matrix products, as a share of the [rate](Start::matrix_rate) of a large one, on this
    /// rank. Products of an 8-bit teacher are not counted.
    pub matrix_share: f64,
    /// Share of the computed tokens that are padding.
    pub padding_share: f64,
}

/// An update was dropped because its gradient was not finite.
#[derive(Clone, Debug, Serialize)]
pub struct Skip {
    pub update: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Valid {
    pub update: u64,
    pub seconds: f64,
    pub sentences: usize,
    /// Means over the domains.
    pub scores: Vec<ValidationScore>,
    /// Only if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainScores>,
    pub samples: Vec<Sample>,
}

/// One of several validation texts.
#[derive(Clone, Debug, Serialize)]
pub struct DomainScores {
    pub name: String,
    pub sentences: usize,
    pub scores: Vec<ValidationScore>,
}

/// Quality with one decoding.
#[derive(Clone, Debug, Serialize)]
pub struct ValidationScore {
    #[serde(flatten)]
    pub decoding: Decoding,
    pub bleu: f64,
    pub chrf: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    #[serde(flatten)]
    pub decoding: Decoding,
    pub source: String,
    pub reference: String,
    pub translation: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Saved {
    pub update: u64,
    pub path: PathBuf,
    pub score: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    pub update: u64,
    /// `finished`, `interrupted`, or the text of an error.
    pub reason: String,
}
