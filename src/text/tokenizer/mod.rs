//! Text to token ids and back: one byte-level BPE for both languages, so that no text becomes `<unk>`. `train
//! tokenizer` makes it (`learn`), a bundle stores it as `tokenizer.json`, and loading checks it (`pipeline`). Imported
//! models may have a second kind (`pieces`).

mod learn;
mod pipeline;

use std::path::Path;
use std::sync::Arc;

use tokenizers::Model;
use tokenizers::models::ModelWrapper;

use super::spelling::Spellings;
use super::{Specials, ascii};
use crate::{Error, Result};
use pipeline::words_of;

/// A piece of a sentence for [`Tokenizer::encode_parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    /// A token that no text spells, such as a reserved one.
    Token(u32),
}

/// A piece of a sentence that was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedPart {
    Text(String),
    /// The reserved token of this index.
    Reserved(usize),
}

/// Cheap to clone and to share between threads.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// For a tokenizer over bytes, as `train tokenizer` makes it; `None` for a vocabulary of pieces.
    spellings: Option<Arc<Spellings>>,
    vocab_size: usize,
    reserved: usize,
}

impl Tokenizer {
    /// The vocabulary's size is a multiple of this: quantised products need it.
    pub const VOCABULARY_MULTIPLE: usize = 16;

    /// Reads and validates `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Bundle`] if it is truncated, not a tokenizer, or of an
    /// unsupported kind.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(&std::fs::read(path).map_err(Error::io(path))?, path)
    }

    /// Validates the content of `path`, which errors name.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::bundle(path, e.to_string()))?;
        Self::checked(inner).map_err(|reason| Error::bundle(path, reason))
    }

    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::files::write(path, self.to_json()?.as_bytes())
    }

    /// The content of the tokenizer's file. Equal contents are equal tokenizers.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library fails.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(library_error)
    }

    /// `bos x1..xn eos`. Text that spells a special token (`<mask>`) is encoded as text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library fails, which no known text causes.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let specials = self.specials();
        let mut ids = vec![specials.bos];
        match self.inner.get_model() {
            _ if text.is_empty() => {}
            // NFC changes nothing in ASCII.
            ModelWrapper::BPE(bpe) if self.spellings.is_some() && text.is_ascii() => {
                let mut spelt = String::new();
                ascii::each_word(text, |word| {
                    ascii::spell(word, &mut spelt);
                    bpe.tokenize(&spelt).map(|tokens| ids.extend(tokens.iter().map(|token| token.id)))
                })
                .map_err(library_error)?;
            }
            _ => ids.extend_from_slice(self.inner.encode_fast(text, false).map_err(library_error)?.get_ids()),
        }
        ids.push(specials.eos);
        Ok(ids)
    }

    /// `bos x1..xn eos` of a sentence in which tokens replace some of its text. Text next to a token keeps its spaces
    /// and gets no others, so that the ids decode to the parts, joined.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_parts(&self, parts: &[Part<'_>]) -> Result<Vec<u32>> {
        let specials = self.specials();
        let mut ids = vec![specials.bos];
        let ModelWrapper::BPE(bpe) = self.inner.get_model() else {
            return Err(Error::Tokenizer("the model is not BPE".into()));
        };
        for (index, part) in parts.iter().enumerate() {
            match *part {
                Part::Token(id) => ids.push(id),
                Part::Text("") => {}
                Part::Text(text) => {
                    let add_prefix_space = index == 0;
                    for word in words_of(text, add_prefix_space).map_err(library_error)? {
                        ids.extend(bpe.tokenize(&word).map_err(library_error)?.iter().map(|token| token.id));
                    }
                }
            }
        }
        ids.push(specials.eos);
        Ok(ids)
    }

    /// The text of `ids` with its reserved tokens, and whether all characters are complete. Leaves out incomplete
    /// characters and U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id outside the vocabulary.
    pub fn decode_parts(&self, ids: &[u32]) -> Result<(Vec<DecodedPart>, bool)> {
        let mut parts = Vec::new();
        let mut whole = true;
        for run in ids.chunk_by(|&a, &b| self.reserved_index(a).is_none() && self.reserved_index(b).is_none())
        {
            if let Some(index) = run.first().and_then(|&id| self.reserved_index(id)) {
                parts.push(DecodedPart::Reserved(index));
                continue;
            }
            let text = match &self.spellings {
                Some(spellings) => {
                    let mut bytes = Vec::with_capacity(8 * run.len());
                    for &id in run {
                        bytes.extend_from_slice(spellings.of(id).ok_or_else(|| self.unknown(id))?);
                    }
                    String::from_utf8(bytes)
                        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
                }
                None => self.decode_pieces(run)?,
            };
            let broken = text.contains(char::REPLACEMENT_CHARACTER);
            whole &= !broken;
            parts.push(DecodedPart::Text(if broken {
                text.replace(char::REPLACEMENT_CHARACTER, "")
            } else {
                text
            }));
        }
        if let Some(DecodedPart::Text(first)) = parts.first_mut()
            && first.starts_with(' ')
        {
            first.remove(0);
        }
        Ok((parts, whole))
    }

    fn unknown(&self, id: u32) -> Error {
        Error::Tokenizer(format!("id {id} in a vocabulary of {}", self.vocab_size))
    }

    /// The text of `ids`, without special and reserved tokens and without the space before the first word. A network
    /// may write bytes that are not UTF-8; they become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let Some(spellings) = &self.spellings else { return self.decode_pieces(ids) };
        let mut bytes = Vec::with_capacity(8 * ids.len());
        for &id in ids {
            bytes.extend_from_slice(spellings.of(id).ok_or_else(|| self.unknown(id))?);
        }
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(text.strip_prefix(' ').map(str::to_owned).unwrap_or(text))
    }

    /// [`Self::decode`] for a vocabulary of pieces, by the library.
    fn decode_pieces(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(self.unknown(*id));
        }
        if ids.iter().all(|&id| (id as usize) < Specials::NAMES.len()) {
            return Ok(String::new()); // the library's decoder of pieces needs at least one piece
        }
        let text = self.inner.decode(ids, true).map_err(library_error)?;
        Ok(text.strip_prefix(' ').map(str::to_owned).unwrap_or(text))
    }

    /// A token in readable form, with its leading space. Incomplete characters are U+FFFD, special tokens have their
    /// names. `None` outside the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        if let Some(index) = self.reserved_index(id) {
            return Some(Specials::reserved_name(index));
        }
        match (Specials::NAMES.get(id as usize), &self.spellings) {
            (Some(&name), _) => Some(name.to_owned()),
            (None, Some(spellings)) => {
                spellings.of(id).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            }
            (None, None) => self.inner.decode(&[id], false).ok().filter(|_| (id as usize) < self.vocab_size),
        }
    }

    /// The tokens that spell token `id` of another tokenizer; none for a special or reserved token that this one lacks.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if one of the two is not of the kind that `train tokenizer` makes.
    pub fn pieces_of(&self, other: &Self, id: u32) -> Result<Vec<u32>> {
        let (ModelWrapper::BPE(bpe), true, true) =
            (self.inner.get_model(), self.spells_everything(), other.spells_everything())
        else {
            return Err(Error::Tokenizer("the two tokenizers are of different kinds".into()));
        };
        let token = other.inner.id_to_token(id).ok_or_else(|| other.unknown(id))?;
        if let Some(same) = self.inner.token_to_id(&token) {
            return Ok(vec![same]);
        }
        if (id as usize) < Specials::NAMES.len() || other.reserved_index(id).is_some() {
            return Ok(Vec::new());
        }
        Ok(bpe.tokenize(&token).map_err(library_error)?.iter().map(|piece| piece.id).collect())
    }

    /// Whether every text can be encoded without unknown tokens.
    pub fn spells_everything(&self) -> bool {
        self.spellings.is_some()
    }

    /// Number of ids, specials included; a multiple of 16.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn specials(&self) -> Specials {
        Specials::default()
    }

    /// Number of reserved tokens, which stand for protected spans.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// The id of the reserved token `<x{index}>`, if the tokenizer has it.
    pub fn reserved_id(&self, index: usize) -> Option<u32> {
        (index < self.reserved).then(|| (Specials::NAMES.len() + index) as u32)
    }

    /// The index of the reserved token with this id: the inverse of [`Self::reserved_id`].
    pub fn reserved_index(&self, id: u32) -> Option<usize> {
        (id as usize).checked_sub(Specials::NAMES.len()).filter(|&index| index < self.reserved)
    }
}

fn library_error(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests;
