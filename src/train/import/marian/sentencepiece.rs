//! Splits words into pieces by a SentencePiece file (`source.spm`), with the `tokenizers` library. Reads only the
//! fields of the protocol buffer that this needs.

use std::path::Path;

use prost::Message;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::{Model, NormalizedString, Normalizer};

use crate::{Error, Result};

/// A space inside a piece.
pub const SPACE: &str = "\u{2581}";

/// `model_type` of a unigram model, the only supported one.
const UNIGRAM: i32 = 1;
/// `type` of the piece for unknown characters.
const UNKNOWN: i32 = 2;

pub struct SentencePiece {
    normalizer: Option<Precompiled>,
    model: Unigram,
}

/// `sentencepiece.ModelProto`
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalization>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Normalization {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

impl SentencePiece {
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Bundle`] for one of another kind.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let wrong = |reason: String| Error::bundle(path, reason);
        let file = File::decode(bytes.as_slice()).map_err(|e| {
            wrong(format!("is not a SentencePiece model ({e}); was it truncated while copying?"))
        })?;
        let kind = file.trainer.and_then(|trainer| trainer.model_type).unwrap_or(UNIGRAM);
        if kind != UNIGRAM {
            return Err(wrong(format!(
                "is a SentencePiece model of type {kind}; only unigram models (1) are supported"
            )));
        }
        let unknown = file.pieces.iter().position(|piece| piece.kind == Some(UNKNOWN));
        let pieces =
            file.pieces.into_iter().map(|p| (p.piece.unwrap_or_default(), p.score.unwrap_or(0.0).into()));
        let model = Unigram::from(pieces.collect(), unknown, false).map_err(|e| wrong(e.to_string()))?;
        let map = file.normalizer.and_then(|n| n.precompiled_charsmap).filter(|map| !map.is_empty());
        let normalizer = map
            .map(|map| Precompiled::from(&map).map_err(|e| wrong(format!("its normalization: {e}"))))
            .transpose()?;
        Ok(Self { normalizer, model })
    }

    /// The pieces of a text, with spaces as [`SPACE`].
    ///
    /// # Errors
    /// [`Error::Model`] if the library fails.
    pub fn pieces(&self, text: &str) -> Result<Vec<String>> {
        let mut normal = NormalizedString::from(text);
        if let Some(normalizer) = &self.normalizer {
            normalizer.normalize(&mut normal).map_err(|e| Error::Model(e.to_string()))?;
        }
        let words: Vec<&str> = normal.get().split_whitespace().collect();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let text = format!("{SPACE}{}", words.join(SPACE));
        let tokens = self.model.tokenize(&text).map_err(|e| Error::Model(e.to_string()))?;
        Ok(tokens.into_iter().map(|token| token.value).collect())
    }
}
