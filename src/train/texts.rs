//! What a stage of training reads before it begins: all its ranks share it.

use std::sync::Arc;

use super::config::Data;
use super::corpus::Corpus;
use super::evaluate::TestSet;
use crate::Result;
use crate::text::Tokenizer;

pub struct Texts {
    pub tokenizer: Arc<Tokenizer>,
    pub corpus: Corpus,
    pub valid: TestSet,
}

impl Texts {
    /// Pairs to train on, and `valid_sentences` pairs to validate with, for a network of `positions` positions.
    ///
    /// # Errors
    /// A file that cannot be read, a line that cannot be used, by name.
    pub fn read(
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        positions: usize,
        valid_sentences: usize,
    ) -> Result<Self> {
        let corpus = Corpus::read_all(data, data.max_tokens_per_sentence.min(positions), &tokenizer)?;
        Self::around(corpus, data, tokenizer, positions, valid_sentences)
    }

    /// The same, of source text alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_sources(
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        positions: usize,
        valid_sentences: usize,
    ) -> Result<Self> {
        let corpus = Corpus::read_sources(data, data.max_tokens_per_sentence.min(positions), &tokenizer)?;
        Self::around(corpus, data, tokenizer, positions, valid_sentences)
    }

    fn around(
        corpus: Corpus,
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        positions: usize,
        valid_sentences: usize,
    ) -> Result<Self> {
        let (source, target) = data.valid_files();
        let valid = TestSet::read_within(&source, &target, valid_sentences, &tokenizer, positions)?;
        Ok(Self { tokenizer, corpus, valid })
    }
}
