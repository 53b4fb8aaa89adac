//! The text that a training stage reads before it starts. All ranks share it.

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

/// The training text of a run.
pub enum Training {
    /// One corpus, unchanged, each pair once an epoch.
    Corpus(Corpus),
    Mixture(Arc<Mixture>),
}

impl Training {
    /// Number of pairs, without repeats.
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

    /// Shares of the corpora of a mixture.
    pub fn shares(&self) -> Vec<Share> {
        match self {
            Self::Corpus(_) => Vec::new(),
            Self::Mixture(mixture) => mixture.shares(),
        }
    }

    /// Batches from `position` on. `rng` is the run's root generator.
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

/// The sides of the training text that a stage needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredSides {
    Both,
    /// Only sources: a teacher writes the targets.
    SourceOnly,
}

/// # Errors
/// [`Error::Bundle`] if the bundle is for other languages than the text.
pub fn require_languages(bundle: &Bundle, data: &Data) -> Result<()> {
    let (own, text) = (&bundle.config, data);
    if (&own.source, &own.target) == (&text.source_lang, &text.target_lang) {
        return Ok(());
    }
    let reason = format!(
        "translates {} to {}, but data.source_lang and data.target_lang are {} and {}",
        own.source, own.target, text.source_lang, text.target_lang
    );
    Err(Error::bundle(&bundle.dir, reason))
}

impl Texts {
    /// Reads training text, and up to `valid_sentences` pairs of each validation text, for a network of this shape.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that cannot be used, by name.
    pub fn read(
        sides: RequiredSides,
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        shape: &Shape,
        valid_sentences: usize,
    ) -> Result<Self> {
        let limit = shape.source_limit();
        let sentence_limit =
            LengthLimit { tokens: data.max_tokens_per_sentence.min(limit), in_slots: shape.has_blanks() };
        let training = match (sides, data.mixture()) {
            (RequiredSides::Both, Some(corpora)) => {
                Training::Mixture(Arc::new(Mixture::read(&corpora, data, sentence_limit, tokenizer.clone())?))
            }
            (RequiredSides::Both, None) => {
                Training::Corpus(Corpus::read_all(data, sentence_limit, &tokenizer)?)
            }
            (RequiredSides::SourceOnly, _) => {
                Training::Corpus(Corpus::read_sources(data, sentence_limit, &tokenizer)?)
            }
        };
        let domains = Domain::read_all(data, valid_sentences)?;
        let reader = Reader::new(tokenizer.clone(), &data.source_lang, &data.target_lang, limit);
        Ok(Self { tokenizer, reader, training, domains })
    }
}
