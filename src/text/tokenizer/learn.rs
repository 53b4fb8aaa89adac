//! Learns a vocabulary from text: `train tokenizer`.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model, Trainer};

use super::pipeline::{MIN_VOCABULARY, assemble, words_of};
use super::{Tokenizer, library_error};
use crate::text::{Specials, pieces};
use crate::{Error, Result};

const VOCABULARY_MULTIPLE: usize = Tokenizer::VOCABULARY_MULTIPLE;

/// Words of more bytes are cut, because learning takes quadratic time for long runs of one character. No word of a
/// language is that long.
pub(super) const MAX_WORD_BYTES: usize = 1000;

impl Tokenizer {
    /// A tokenizer of words cut into `pieces`, whose ids count from 0: the special tokens, and the vocabulary of
    /// another model, with [`END_OF_WORD`](crate::text::END_OF_WORD) after a piece that ends its word. `merges` are in
    /// the order in which they are applied, and their results are pieces.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a vocabulary whose size is not a multiple of 16, or that lacks a merged piece.
    pub fn of_pieces(pieces: &[String], merges: Vec<(String, String)>) -> Result<Self> {
        let inner = pieces::assemble(pieces, merges).map_err(library_error)?;
        Self::checked(inner).map_err(Error::Tokenizer)
    }

    /// Learns a vocabulary from `lines` of both languages. The same lines, in any order, give the same
    /// tokenizer.
    ///
    /// `vocab_size` is an upper bound and is rounded down to a multiple of 16. A corpus with fewer pairs to merge gives
    /// the largest possible multiple.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if fewer than 272 tokens are requested or found.
    pub fn train<I, S>(lines: I, vocab_size: usize) -> Result<Self>
    where
        I: Iterator<Item = S> + Send,
        S: AsRef<str> + Send,
    {
        Self::train_with_reserved(lines, vocab_size, 0)
    }

    /// [`Self::train`] with `reserved` tokens (at most [`Specials::MAX_RESERVED`]) after the special ones,
    /// which no text spells: `<x0>`, `<x1>` and so on stand for protected spans.
    ///
    /// # Errors
    /// As [`Self::train`]; also for too many reserved tokens.
    pub fn train_with_reserved<I, S>(lines: I, vocab_size: usize, reserved: usize) -> Result<Self>
    where
        I: Iterator<Item = S> + Send,
        S: AsRef<str> + Send,
    {
        if reserved > Specials::MAX_RESERVED {
            return Err(Error::Tokenizer(format!(
                "{reserved} reserved tokens are requested; at most {} are possible",
                Specials::MAX_RESERVED
            )));
        }
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size - vocab_size % VOCABULARY_MULTIPLE)
            .show_progress(false)
            .special_tokens(Specials::tokens(reserved))
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        trainer.feed(lines, words).map_err(library_error)?;
        let mut model = BPE::default();
        loop {
            if trainer.vocab_size < MIN_VOCABULARY + reserved {
                return Err(Error::Tokenizer(format!(
                    "the vocabulary has {} tokens; at least {} are needed: raise tokenizer.vocab_size or add text",
                    trainer.vocab_size,
                    MIN_VOCABULARY + reserved
                )));
            }
            trainer.train(&mut model).map_err(library_error)?;
            let found = model.get_vocab_size();
            if found % VOCABULARY_MULTIPLE == 0 {
                break;
            }
            // Merges come in the order of their use, so stopping earlier only drops the last ones.
            trainer.vocab_size = found - found % VOCABULARY_MULTIPLE;
        }
        Self::checked(assemble(model, reserved).map_err(library_error)?).map_err(Error::Tokenizer)
    }
}

/// The words of a line in which BPE merges, spelt in the byte alphabet. Long words are cut.
pub(super) fn words(line: &str) -> tokenizers::Result<Vec<String>> {
    let words = words_of(line, true)?;
    if words.iter().all(|word| word.len() <= MAX_WORD_BYTES) {
        return Ok(words);
    }
    let mut short = Vec::with_capacity(words.len());
    for word in words {
        let mut rest = word.as_str();
        while !rest.is_empty() {
            let longest = MAX_WORD_BYTES.min(rest.len());
            let end = (1..=longest).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
            let (part, others) = rest.split_at(end);
            short.push(part.to_owned());
            rest = others;
        }
    }
    Ok(short)
}
