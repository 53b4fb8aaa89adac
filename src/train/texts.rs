//! What a stage of training reads before it begins: all its ranks share it.

use std::sync::Arc;

use super::config::Data;
use super::corpus::{Corpus, Room};
use super::evaluate::TestSet;
use crate::Result;
use crate::model::Shape;
use crate::text::Tokenizer;

pub struct Texts {
    pub tokenizer: Arc<Tokenizer>,
    pub corpus: Corpus,
    pub valid: TestSet,
}

/// [`Corpus::read_all`] or [`Corpus::read_sources`].
pub type ReadCorpus = fn(&Data, Room, &Tokenizer) -> Result<Corpus>;

impl Texts {
    /// Text to train on, and `valid_sentences` pairs to validate with, for a network of this shape.
    ///
    /// # Errors
    /// A file that cannot be read, a line that cannot be used, by name.
    pub fn read(
        corpus: ReadCorpus,
        data: &Data,
        tokenizer: Arc<Tokenizer>,
        shape: &Shape,
        valid_sentences: usize,
    ) -> Result<Self> {
        let limit = shape.source_limit();
        let room = Room { tokens: data.max_tokens_per_sentence.min(limit), in_slots: shape.has_blanks() };
        let corpus = corpus(data, room, &tokenizer)?;
        let (source, target) = data.valid_files();
        let valid = TestSet::read_within(&source, &target, valid_sentences, &tokenizer, limit)?;
        Ok(Self { tokenizer, corpus, valid })
    }
}
