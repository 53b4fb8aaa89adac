//! The pipeline of a tokenizer over bytes: NFC, GPT-2's splitting into words, a space before the first word, BPE. A
//! file with another pipeline is refused, because the library would give other ids than the network was trained on.

use std::sync::Arc;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::Tokenizer;
use crate::text::spelling::Spellings;
use crate::text::{Specials, pieces};

const VOCABULARY_MULTIPLE: usize = Tokenizer::VOCABULARY_MULTIPLE;

/// Specials and bytes, rounded up to a multiple of 16.
pub(super) const MIN_VOCABULARY: usize = (5usize + 256).next_multiple_of(VOCABULARY_MULTIPLE);

/// Number of words in the library's cache of ids, for each thread. Its default of 10,000 words takes 2 MB a thread.
/// Most words of a text are among the few thousand most frequent ones.
const CACHED_WORDS: usize = 2048;

pub(super) fn assemble(model: BPE, reserved: usize) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(byte_level(true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(Specials::tokens(reserved))?;
    Ok(tokenizer)
}

fn byte_level(add_prefix_space: bool) -> ByteLevel {
    ByteLevel::default().add_prefix_space(add_prefix_space).use_regex(true)
}

/// The words of a text in which BPE merges, spelt in the byte alphabet, with or without a space before the first word.
pub(super) fn words_of(line: &str, add_prefix_space: bool) -> tokenizers::Result<Vec<String>> {
    let mut text = NormalizedString::from(line);
    NFC.normalize(&mut text)?;
    let mut text = PreTokenizedString::from(text);
    byte_level(add_prefix_space).pre_tokenize(&mut text)?;
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

impl Tokenizer {
    /// Refuses unsupported tokenizers, with the reason.
    pub(super) fn checked(mut inner: tokenizers::Tokenizer) -> Result<Self, String> {
        let require = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
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
        require(bare, "a post-processor, truncation or padding is set")?;

        let vocab_size = bpe.get_vocab_size();
        let min_size = if over_bytes { MIN_VOCABULARY } else { VOCABULARY_MULTIPLE };
        if vocab_size < min_size || !vocab_size.is_multiple_of(VOCABULARY_MULTIPLE) {
            return Err(format!("{vocab_size} tokens; expected a multiple of 16 from {min_size} up"));
        }
        if let Some(hole) = (0..vocab_size).find(|&id| bpe.id_to_token(id as u32).is_none()) {
            return Err(format!("no token has id {hole}, but there are {vocab_size} tokens"));
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
        require(added.len() == specials, "there are added tokens that are neither special nor reserved")?;
        require(vocab_size >= min_size + reserved, "the vocabulary is too small for all bytes")?;
        let special = |id: usize| id < specials;
        let names = (0..vocab_size).map(|id| bpe.id_to_token(id as u32).filter(|_| !special(id)));
        let names: Vec<String> = names.map(Option::unwrap_or_default).collect();
        let spellings = over_bytes.then(|| Arc::new(Spellings::new(names.iter().map(String::as_str))));
        inner.set_encode_special_tokens(true); // the file does not store this setting
        let mut model = inner.get_model().clone();
        model.resize_cache(CACHED_WORDS);
        inner.with_model(model);
        Ok(Self { inner: Arc::new(inner), spellings, vocab_size, reserved })
    }
}

/// Refuses tokenizers that [`assemble`] does not make. Of the vocabulary, checks only that it has all bytes.
fn check_bytes(inner: &tokenizers::Tokenizer, bpe: &BPE) -> Result<(), String> {
    let require = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
    let plain = bpe.dropout.is_none()
        && bpe.unk_token.is_none()
        && bpe.continuing_subword_prefix.is_none()
        && bpe.end_of_word_suffix.is_none()
        && !bpe.byte_fallback
        && !bpe.ignore_merges;
    require(plain, "the BPE has dropout, an unknown token, affixes, byte fallback or ignored merges")?;
    require(matches!(inner.get_normalizer(), Some(NormalizerWrapper::NFC(_))), "the normalizer is not NFC")?;
    require(
        matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(b)) if b.add_prefix_space && b.use_regex),
        "the pre-tokenizer is not ByteLevel with a prefix space",
    )?;
    require(
        matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
        "the decoder is not ByteLevel",
    )?;
    if let Some(byte) = ByteLevel::alphabet().into_iter().find(|c| bpe.token_to_id(&c.to_string()).is_none())
    {
        return Err(format!("no token for the byte that is spelt {byte:?}"));
    }
    Ok(())
}
