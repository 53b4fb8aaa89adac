//! The second kind of tokenizer: words are what stands between spaces, cut into pieces as subword-nmt and
//! fastBPE do it. For models that others trained, with their vocabulary.
//!
//! It takes text as it was prepared for such a model (by the Moses scripts, as a rule: punctuation apart,
//! `&apos;` for an apostrophe), and gives text of that form. A character that the vocabulary does not have
//! is unknown.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::bpe::BPEDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;

use super::Specials;

/// Behind a piece that ends its word.
pub const END_OF_WORD: &str = "</w>";

/// A tokenizer whose ids count `pieces` from 0; the pieces that `merges` names are among them.
pub(super) fn assemble(
    pieces: &[String],
    merges: Vec<(String, String)>,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let ids = pieces.iter().cloned().zip(0u32..);
    let model = BPE::builder()
        .vocab_and_merges(ids.collect::<Vocab>(), merges)
        .unk_token(unknown().into())
        .end_of_word_suffix(END_OF_WORD.into())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    tokenizer.with_decoder(Some(BPEDecoder::new(END_OF_WORD.into())));
    tokenizer.add_special_tokens(Specials::tokens(0))?;
    Ok(tokenizer)
}

/// Whether a model is meant to be of this kind.
pub(super) fn is_kind(bpe: &BPE) -> bool {
    bpe.end_of_word_suffix.is_some()
}

/// Refuses what [`assemble`] does not make, with the reason. Vocabulary and special tokens are not looked at.
pub(super) fn check(inner: &tokenizers::Tokenizer, bpe: &BPE) -> Result<(), String> {
    let expect = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
    let plain = bpe.dropout.is_none()
        && bpe.unk_token.as_deref() == Some(unknown())
        && bpe.continuing_subword_prefix.is_none()
        && bpe.end_of_word_suffix.as_deref() == Some(END_OF_WORD)
        && !bpe.fuse_unk
        && !bpe.byte_fallback
        && !bpe.ignore_merges;
    expect(plain, "the BPE over words has options that this program does not know")?;
    expect(inner.get_normalizer().is_none(), "a tokenizer over words has a normalizer")?;
    expect(
        matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::WhitespaceSplit(_))),
        "the pre-tokenizer does not split at spaces",
    )?;
    expect(
        matches!(inner.get_decoder(), Some(DecoderWrapper::BPE(d)) if d.suffix == END_OF_WORD),
        "the decoder is not that of BPE over words",
    )
}

fn unknown() -> &'static str {
    Specials::NAMES[Specials::default().unk as usize]
}
