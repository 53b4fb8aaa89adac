//! The second kind of tokenizer: splits text at spaces, and words into pieces like subword-nmt and fastBPE. For models
//! that other programs trained, with their vocabulary.
//!
//! Its text must be prepared as for such a model, usually by the Moses scripts: spaces around punctuation, `&apos;` for
//! an apostrophe. Translations have the same form. Characters outside the vocabulary are unknown.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::bpe::BPEDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;

use super::Specials;

/// Suffix of a piece that ends its word.
pub const END_OF_WORD: &str = "</w>";

/// A tokenizer in which the id of a piece is its index in `pieces`, which include those of `merges`.
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

/// Whether a model is of this kind.
pub(super) fn is_kind(bpe: &BPE) -> bool {
    bpe.end_of_word_suffix.is_some()
}

/// Refuses tokenizers that [`assemble`] does not make, with the reason. Does not check vocabulary and special tokens.
pub(super) fn check(inner: &tokenizers::Tokenizer, bpe: &BPE) -> Result<(), String> {
    let require = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
    let plain = bpe.dropout.is_none()
        && bpe.unk_token.as_deref() == Some(unknown())
        && bpe.continuing_subword_prefix.is_none()
        && bpe.end_of_word_suffix.as_deref() == Some(END_OF_WORD)
        && !bpe.fuse_unk
        && !bpe.byte_fallback
        && !bpe.ignore_merges;
    require(plain, "the BPE over words has unsupported options")?;
    require(inner.get_normalizer().is_none(), "a tokenizer over words has a normalizer")?;
    require(
        matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::WhitespaceSplit(_))),
        "the pre-tokenizer does not split at spaces",
    )?;
    require(
        matches!(inner.get_decoder(), Some(DecoderWrapper::BPE(d)) if d.suffix == END_OF_WORD),
        "the decoder is not that of BPE over words",
    )
}

fn unknown() -> &'static str {
    Specials::NAMES[Specials::default().unk as usize]
}
