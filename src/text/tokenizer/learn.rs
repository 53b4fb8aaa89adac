//! Learns a vocabulary from text: `train tokenizer`.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model, Trainer};

use super::pipeline::{MIN_VOCABULARY, assemble, words_of};
use super::{Tokenizer, wrong};
use crate::text::{Specials, pieces};
use crate::{Error, Result};

const VOCABULARY_MULTIPLE: usize = Tokenizer::VOCABULARY_MULTIPLE;

/// Longer words are cut: learning from a run of one character takes time in proportion to its square, and no word of
/// a language is that long. In bytes.
pub(super) const LONGEST_WORD: usize = 1000;

impl Tokenizer {
    /// A tokenizer of words cut into `pieces`, whose ids count from 0: the special tokens and what stands
    /// in another model's vocabulary, with [`END_OF_WORD`](crate::text::END_OF_WORD) behind a piece that ends its
    /// word. `merges` come in the order in which they are applied, and give pieces.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a vocabulary whose size is no multiple of 16, or that lacks a merged piece.
    pub fn of_pieces(pieces: &[String], merges: Vec<(String, String)>) -> Result<Self> {
        let inner = pieces::assemble(pieces, merges).map_err(wrong)?;
        Self::checked(inner).map_err(Error::Tokenizer)
    }

    /// Learns a vocabulary from `lines` of both languages. The same lines, in any order, give the same
    /// tokenizer.
    ///
    /// `vocab_size` is an upper bound: it is rounded down to a multiple of 16, and a corpus that has
    /// fewer pairs to merge gives the next multiple below what it has.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where fewer than 272 tokens are asked for or found.
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
                "{reserved} reserved tokens are asked for; at most {} are possible",
                Specials::MAX_RESERVED
            )));
        }
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size - vocab_size % VOCABULARY_MULTIPLE)
            .show_progress(false)
            .special_tokens(Specials::tokens(reserved))
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        trainer.feed(lines, words).map_err(wrong)?;
        let mut model = BPE::default();
        loop {
            if trainer.vocab_size < MIN_VOCABULARY + reserved {
                return Err(Error::Tokenizer(format!(
                    "a vocabulary of {} tokens is asked for or found in the corpus; at least {} are needed",
                    trainer.vocab_size,
                    MIN_VOCABULARY + reserved
                )));
            }
            trainer.train(&mut model).map_err(wrong)?;
            let found = model.get_vocab_size();
            if found % VOCABULARY_MULTIPLE == 0 {
                break;
            }
            // Merges come in the order of their use, so stopping earlier only drops the last ones.
            trainer.vocab_size = found - found % VOCABULARY_MULTIPLE;
        }
        Self::checked(assemble(model, reserved).map_err(wrong)?).map_err(Error::Tokenizer)
    }
}

/// A line as the words that BPE merges in, spelt in the byte alphabet: the first half of encoding.
pub(super) fn words(line: &str) -> tokenizers::Result<Vec<String>> {
    let words = words_of(line, true)?;
    if words.iter().all(|word| word.len() <= LONGEST_WORD) {
        return Ok(words);
    }
    let mut short = Vec::with_capacity(words.len());
    for word in words {
        let mut rest = word.as_str();
        while !rest.is_empty() {
            let longest = LONGEST_WORD.min(rest.len());
            let end = (1..=longest).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
            let (part, others) = rest.split_at(end);
            short.push(part.to_owned());
            rest = others;
        }
    }
    Ok(short)
}
