//! Text to token ids and back: one byte-level BPE for both languages, so that nothing is ever lost to
//! `<unk>`. Made by `train tokenizer`, kept as `tokenizer.json` in a bundle. Beside it there is one more
//! kind, for models that come from elsewhere (`pieces`).
//!
//! The pipeline is fixed (NFC, GPT-2's splitting into words, a space before the first word, BPE over
//! bytes) and checked when a file is loaded: a file that describes another one is refused, because it
//! would give other ids than the network was trained on.

use std::path::Path;
use std::sync::Arc;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Trainer,
};

use super::spelling::Spellings;
use super::{Specials, ascii, pieces};
use crate::{Error, Result};

const VOCABULARY_MULTIPLE: usize = Tokenizer::VOCABULARY_MULTIPLE;

/// Specials and bytes, rounded up to a multiple of 16.
const MIN_VOCABULARY: usize = (5usize + 256).next_multiple_of(VOCABULARY_MULTIPLE);

/// Words whose ids each thread keeps: the library's cache. Its own 10,000 are 2 MB a thread that fill for
/// as long as a server meets new words; most of a text is words of the first thousands.
const CACHED_WORDS: usize = 2048;

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
    /// Of the kind that `train tokenizer` makes, over bytes; none of a vocabulary of pieces.
    spellings: Option<Arc<Spellings>>,
    vocab_size: usize,
    reserved: usize,
}

impl Tokenizer {
    /// The vocabulary's size is a multiple of this: quantised products need it.
    pub const VOCABULARY_MULTIPLE: usize = 16;

    /// A tokenizer of words cut into `pieces`, whose ids count from 0: the special tokens and what stands
    /// in another model's vocabulary, with [`END_OF_WORD`](super::END_OF_WORD) behind a piece that ends its
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
            .special_tokens(special_tokens(reserved))
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

    /// Reads and validates `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Bundle`], naming it, where it is cut, not
    /// a tokenizer, or not one of ours.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(&std::fs::read(path).map_err(Error::io(path))?, path)
    }

    /// The same from the content of `path`, which errors name.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::bundle(path, e.to_string()))?;
        Self::checked(inner).map_err(|reason| Error::bundle(path, reason))
    }

    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::files::write(path, self.to_json()?.as_bytes())
    }

    /// As it stands in its file: equal texts are equal tokenizers.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the library refuses.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(wrong)
    }

    /// `bos x1..xn eos`. Text that spells a special token (`<mask>`) is encoded as the text it is.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the library refuses, which no text is known to bring about.
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
                .map_err(wrong)?;
            }
            _ => ids.extend_from_slice(self.inner.encode_fast(text, false).map_err(wrong)?.get_ids()),
        }
        ids.push(specials.eos);
        Ok(ids)
    }

    /// `bos x1..xn eos` of a sentence in which tokens stand in the place of some of its text. Text next to a token is
    /// encoded as it is: a space before it or behind it stays, and none is added, so that the text of the ids is
    /// the parts, one after the other.
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
                    for word in words_of(text, add_prefix_space).map_err(wrong)? {
                        ids.extend(bpe.tokenize(&word).map_err(wrong)?.iter().map(|token| token.id));
                    }
                }
            }
        }
        ids.push(specials.eos);
        Ok(ids)
    }

    /// The text of `ids` with its reserved tokens, and whether all of it is whole characters. Bytes that are not are
    /// left out, as is U+FFFD.
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

    /// The text of `ids`, without special and reserved tokens and without the space before the first word. Bytes
    /// that are no UTF-8, which a network may put together, become U+FFFD.
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

    /// [`Self::decode`] for a vocabulary of pieces, as the library does it.
    fn decode_pieces(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(self.unknown(*id));
        }
        if ids.iter().all(|&id| (id as usize) < Specials::NAMES.len()) {
            return Ok(String::new()); // which the library's decoder of pieces does not expect
        }
        let text = self.inner.decode(ids, true).map_err(wrong)?;
        Ok(text.strip_prefix(' ').map(str::to_owned).unwrap_or(text))
    }

    /// One token for a reader's eye, with its leading space; parts of a character show as U+FFFD,
    /// specials as their names. `None` outside the vocabulary.
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

    /// Whether every text has a spelling, so that no token is ever unknown.
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

    /// Number of reserved tokens, which stand for protected spans: 0 where the tokenizer has none.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// The id of the reserved token `<x{index}>`, where the tokenizer has it.
    pub fn reserved_id(&self, index: usize) -> Option<u32> {
        (index < self.reserved).then(|| (Specials::NAMES.len() + index) as u32)
    }

    /// The index of the reserved token with this id: the inverse of [`Self::reserved_id`].
    pub fn reserved_index(&self, id: u32) -> Option<usize> {
        (id as usize).checked_sub(Specials::NAMES.len()).filter(|&index| index < self.reserved)
    }

    /// Refuses every tokenizer that is not made like ours, with the reason.
    fn checked(mut inner: tokenizers::Tokenizer) -> Result<Self, String> {
        let expect = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
        let ModelWrapper::BPE(bpe) = inner.get_model() else {
            return Err("the model is not BPE".into());
        };
        let over_bytes = !pieces::is_kind(bpe);
        if over_bytes {
            check_bytes(&inner, bpe)?;
        } else {
            pieces::check(&inner, bpe)?;
        }
        let bare = inner.get_post_processor().is_none()
            && inner.get_truncation().is_none()
            && inner.get_padding().is_none();
        expect(bare, "a post-processor, truncation or padding is set")?;

        let vocab_size = bpe.get_vocab_size();
        let least = if over_bytes { MIN_VOCABULARY } else { VOCABULARY_MULTIPLE };
        if vocab_size < least || !vocab_size.is_multiple_of(VOCABULARY_MULTIPLE) {
            return Err(format!("{vocab_size} tokens; expected a multiple of 16 from {least} up"));
        }
        if let Some(hole) = (0..vocab_size).find(|&id| bpe.id_to_token(id as u32).is_none()) {
            return Err(format!("no token has id {hole}, though there are {vocab_size}"));
        }
        let added = inner.get_added_tokens_decoder();
        for (id, name) in (0u32..).zip(Specials::NAMES) {
            let marked = added.get(&id).is_some_and(|token| token.content == name && token.special);
            if !marked || bpe.id_to_token(id).as_deref() != Some(name) {
                return Err(format!("id {id} is not the special token {name}"));
            }
        }
        let reserved = (0..Specials::MAX_RESERVED)
            .take_while(|&index| {
                let id = (Specials::NAMES.len() + index) as u32;
                let name = Specials::reserved_name(index);
                let marked = added.get(&id).is_some_and(|token| token.content == name && token.special);
                marked && bpe.id_to_token(id).as_deref() == Some(&name)
            })
            .count();
        let specials = Specials::NAMES.len() + reserved;
        expect(added.len() == specials, "there are added tokens other than special and reserved ones")?;
        expect(vocab_size >= least + reserved, "the vocabulary has no room for all bytes")?;
        let special = |id: usize| id < specials;
        let names = (0..vocab_size).map(|id| bpe.id_to_token(id as u32).filter(|_| !special(id)));
        let names: Vec<String> = names.map(Option::unwrap_or_default).collect();
        let spellings = over_bytes.then(|| Arc::new(Spellings::new(names.iter().map(String::as_str))));
        inner.set_encode_special_tokens(true); // not kept in the file
        let mut model = inner.get_model().clone();
        model.resize_cache(CACHED_WORDS);
        inner.with_model(model);
        Ok(Self { inner: Arc::new(inner), spellings, vocab_size, reserved })
    }
}

/// Refuses what [`assemble`] does not make; vocabulary and special tokens are not looked at but for the bytes.
fn check_bytes(inner: &tokenizers::Tokenizer, bpe: &BPE) -> Result<(), String> {
    let expect = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
    let plain = bpe.dropout.is_none()
        && bpe.unk_token.is_none()
        && bpe.continuing_subword_prefix.is_none()
        && bpe.end_of_word_suffix.is_none()
        && !bpe.byte_fallback
        && !bpe.ignore_merges;
    expect(plain, "the BPE has dropout, an unknown token, affixes, byte fallback or ignored merges")?;
    expect(matches!(inner.get_normalizer(), Some(NormalizerWrapper::NFC(_))), "the normalizer is not NFC")?;
    expect(
        matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(b)) if b.add_prefix_space && b.use_regex),
        "the pre-tokenizer is not ByteLevel with a prefix space",
    )?;
    expect(
        matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
        "the decoder is not ByteLevel",
    )?;
    if let Some(byte) = ByteLevel::alphabet().into_iter().find(|c| bpe.token_to_id(&c.to_string()).is_none())
    {
        return Err(format!("no token for the byte that is written {byte:?}"));
    }
    Ok(())
}

/// The special tokens, and `reserved` reserved ones after them.
pub(super) fn special_tokens(reserved: usize) -> Vec<AddedToken> {
    let names = Specials::NAMES.iter().map(|&name| name.to_owned());
    let reserved = (0..reserved).map(Specials::reserved_name);
    names.chain(reserved).map(|name| AddedToken::from(name, true)).collect()
}

fn byte_level(add_prefix_space: bool) -> ByteLevel {
    ByteLevel::default().add_prefix_space(add_prefix_space).use_regex(true)
}

/// Words of more bytes are cut when a vocabulary is trained: a run of one character costs its square, and no word of
/// a language is that long.
const LONGEST_WORD: usize = 1000;

/// A line as the words that BPE merges in, spelt in the byte alphabet: the first half of encoding.
fn words(line: &str) -> tokenizers::Result<Vec<String>> {
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

/// The same with or without a space before the first word.
fn words_of(line: &str, add_prefix_space: bool) -> tokenizers::Result<Vec<String>> {
    let mut text = NormalizedString::from(line);
    NFC.normalize(&mut text)?;
    let mut text = PreTokenizedString::from(text);
    byte_level(add_prefix_space).pre_tokenize(&mut text)?;
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

fn assemble(model: BPE, reserved: usize) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(byte_level(true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(special_tokens(reserved))?;
    Ok(tokenizer)
}

fn wrong(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests;
