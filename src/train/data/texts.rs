//! What a stage of training reads before it begins: all its ranks share it.

use std::sync::Arc;

use crate::model::{Bundle, Shape};
use crate::text::{Reader, Tokenizer};
use crate::train::config::Data;
use crate::train::config::LengthLimit;
use crate::train::data::batches::Position;
use crate::train::data::corpus::Corpus;
use crate::train::data::domains::Domain;
use crate::train::data::feed::Feed;
use crate::train::data::mixture::Mixture;
use crate::train::observe::event::{Share, Skipped};
use crate::train::rng::Rng;
use crate::{Error, Result};

pub struct Texts {
    pub tokenizer: Arc<Tokenizer>,
    /// Reads the text of the domains as the server reads a user's.
    pub reader: Reader,
    pub training: Training,
    /// At least one.
    pub domains: Vec<Domain>,
}

/// What a run is trained on.
pub enum Training {
    /// One corpus as it is, each pair once an epoch.
    Corpus(Corpus),
    Mixture(Arc<Mixture>),
}

impl Training {
    /// Pairs, each counted once.
    pub fn pairs(&self) -> usize {
        match self {
            Self::Corpus(corpus) => corpus.pairs.len(),
            Self::Mixture(mixture) => mixture.pairs(),
        }
    }

    pub fn skipped(&self) -> Skipped {
        match self {
            Self::Corpus(corpus) => corpus.skipped,
            Self::Mixture(mixture) => mixture.skipped,
        }
    }

    /// Of the corpora of a mixture.
    pub fn shares(&self) -> Vec<Share> {
        match self {
            Self::Corpus(_) => Vec::new(),
            Self::Mixture(mixture) => mixture.shares(),
        }
    }

    /// Batches from `position` on; `rng` is the run's.
    ///
    /// # Errors
    /// As [`Feed::of_corpus`] and [`Feed::of_mixture`].
    pub fn feed(&self, batch_tokens: usize, rng: &Rng, position: Position) -> Result<Feed<'_>> {
        match self {
            Self::Corpus(corpus) => Feed::of_corpus(corpus, batch_tokens, rng, position),
            Self::Mixture(mixture) => Feed::of_mixture(mixture.clone(), batch_tokens, rng, position),
        }
    }
}

/// Whether a stage needs the targets of the training text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    Both,
    /// A teacher writes the targets.
    SourceAlone,
}

/// Errors: a bundle for other languages than the text's.
pub fn require_languages(bundle: &Bundle, data: &Data) -> Result<()> {
    let (own, text) = (&bundle.config, data);
    if (&own.source, &own.target) == (&text.source_lang, &text.target_lang) {
        return Ok(());
    }
    let reason = format!(
        "translates {} to {}, but data.* says {} to {}",
        own.source, own.target, text.source_lang, text.target_lang
    );
    Err(Error::bundle(&bundle.dir, reason))
}

impl Texts {
    /// Text to train on, and up to `valid_sentences` pairs of each domain to validate with, for a network of this shape.
    ///
    /// # Errors
    /// A file that cannot be read, a line that cannot be used, by name.
    pub fn read(
        sides: Sides,
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        shape: &Shape,
        valid_sentences: usize,
    ) -> Result<Self> {
        let limit = shape.source_limit();
        let room =
            LengthLimit { tokens: data.max_tokens_per_sentence.min(limit), in_slots: shape.has_blanks() };
        let training = match (sides, data.mixture()) {
            (Sides::Both, Some(corpora)) => {
                Training::Mixture(Arc::new(Mixture::read(&corpora, data, room, tokenizer.clone())?))
            }
            (Sides::Both, None) => Training::Corpus(Corpus::read_all(data, room, &tokenizer)?),
            (Sides::SourceAlone, _) => Training::Corpus(Corpus::read_sources(data, room, &tokenizer)?),
        };
        let domains = Domain::read_all(data, valid_sentences)?;
        let reader = Reader::new(tokenizer.clone(), &data.source_lang, &data.target_lang, limit);
        Ok(Self { tokenizer, reader, training, domains })
    }
}
