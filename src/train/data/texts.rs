//! What a stage of training reads before it begins: all its ranks share it.

use std::sync::Arc;

use crate::model::{Bundle, Shape};
use crate::text::Tokenizer;
use crate::train::config::Data;
use crate::train::config::LengthLimit;
use crate::train::data::corpus::Corpus;
use crate::train::data::test_set::TestSet;
use crate::{Error, Result};

pub struct Texts {
    pub tokenizer: Arc<Tokenizer>,
    pub corpus: Corpus,
    pub valid: TestSet,
}

/// [`Corpus::read_all`] or [`Corpus::read_sources`].
pub type ReadCorpus = fn(&Data, LengthLimit, &Tokenizer) -> Result<Corpus>;

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
        let room =
            LengthLimit { tokens: data.max_tokens_per_sentence.min(limit), in_slots: shape.has_blanks() };
        let corpus = corpus(data, room, &tokenizer)?;
        let (source, target) = data.valid_files();
        let valid = TestSet::read_within(&source, &target, valid_sentences, &tokenizer, limit)?;
        Ok(Self { tokenizer, corpus, valid })
    }
}
