//! A lexical shortlist: the target tokens that may occur in the translation of a sentence, chosen by its source
//! tokens. The product with the vocabulary matrix, a third of a pass on a CPU, is then computed for some hundred
//! tokens instead of all.
//!
//! An optional file of a bundle (`shortlist.safetensors`), written by `train shortlist`: `common` `[n]` are tokens
//! that every sentence may use; `tokens` `[m]` are the candidates of each source token, those of token `s` at
//! `starts[s]..starts[s + 1]` (`starts` `[vocab + 1]`).

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::rows;
use crate::text::Specials;
use crate::{Error, Result};

/// Tokens are stored as u16.
const MAX_TOKENS: usize = 1 << 16;

/// The candidates of source tokens. All of them can occur in a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortlist {
    vocab: usize,
    common: Vec<u16>,
    starts: Vec<u32>,
    tokens: Vec<u16>,
}

impl Shortlist {
    /// `of_source[s]` are the candidates of source token `s`, for all tokens of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Config`] for a vocabulary of more than 65,536 tokens, for candidates outside it, for special tokens,
    /// and if `common` is empty, since a sentence could then have no candidate.
    pub fn new(common: &[u32], of_source: &[Vec<u32>]) -> Result<Self> {
        let vocab = of_source.len();
        if vocab > MAX_TOKENS {
            let reason = format!("a shortlist is for vocabularies of up to {MAX_TOKENS} tokens, not {vocab}");
            return Err(Error::Config(reason));
        }
        let narrow =
            |tokens: &[u32]| tokens.iter().map(|&t| u16::try_from(t).ok()).collect::<Option<Vec<_>>>();
        let mut starts = vec![0u32];
        starts.extend(of_source.iter().scan(0u32, |sum, tokens| {
            *sum += tokens.len() as u32;
            Some(*sum)
        }));
        let wide = || Error::Config(format!("a candidate is outside the vocabulary of {vocab} tokens"));
        let this = Self {
            vocab,
            common: narrow(common).ok_or_else(wide)?,
            starts,
            tokens: narrow(&of_source.concat()).ok_or_else(wide)?,
        };
        this.check().map_err(Error::Config)?;
        Ok(this)
    }

    /// Reads the output of [`Self::to_bytes`] for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn from_bytes(bytes: &[u8], vocab: usize) -> Result<Self, String> {
        let file = rows::open(bytes)?;
        let starts = rows::row(&file, "starts", Dtype::U32)?;
        let this = Self {
            vocab,
            common: rows::words(rows::row(&file, "common", Dtype::U16)?),
            starts: starts.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect(),
            tokens: rows::words(rows::row(&file, "tokens", Dtype::U16)?),
        };
        this.check()?;
        Ok(this)
    }

    /// Serializes the shortlist. `metadata` describes how it was made.
    ///
    /// # Errors
    /// Those of the safetensors library.
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let rows = [
            ("common", Dtype::U16, rows::bytes_of(&self.common)),
            ("starts", Dtype::U32, self.starts.iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("tokens", Dtype::U16, rows::bytes_of(&self.tokens)),
        ];
        rows::serialize(&rows, metadata).map_err(|e| Error::Config(format!("the shortlist: {e}")))
    }

    fn check(&self) -> Result<(), String> {
        let (vocab, starts) = (self.vocab, &self.starts);
        if starts.len() != vocab + 1 {
            return Err(format!("is for {} tokens, the model has {vocab}", starts.len().saturating_sub(1)));
        }
        let whole =
            starts.first() == Some(&0) && starts.last().map(|&end| end as usize) == Some(self.tokens.len());
        if !whole || !starts.is_sorted() {
            return Err("its lists are not consecutive".into());
        }
        let allowed = Specials::NAMES.len()..vocab;
        match self.common.iter().chain(&self.tokens).find(|&&t| !allowed.contains(&usize::from(t))) {
            Some(token) => Err(format!("token {token} cannot occur in a translation")),
            None if self.common.is_empty() => Err("has no common token".into()),
            None => Ok(()),
        }
    }

    /// Size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The tokens that may occur in a translation of `source`, ascending and at least one: the common tokens, the
    /// candidates of the source tokens, and the source tokens themselves, so that names can be copied.
    ///
    /// # Panics
    /// If a source token is outside the vocabulary.
    pub fn candidates(&self, source: &[u32]) -> Vec<u32> {
        let mut taken = vec![0u64; self.vocab.div_ceil(64)];
        let mut take = |token: usize| taken[token / 64] |= 1 << (token % 64);
        self.common.iter().for_each(|&token| take(token.into()));
        for &token in source {
            let token = token as usize;
            if token >= Specials::NAMES.len() {
                take(token);
            }
            let (start, end) = (self.starts[token] as usize, self.starts[token + 1] as usize);
            self.tokens[start..end].iter().for_each(|&token| take(token.into()));
        }
        let mut candidates = Vec::with_capacity(taken.iter().map(|word| word.count_ones() as usize).sum());
        for (index, &word) in taken.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                candidates.push(index as u32 * 64 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests;
