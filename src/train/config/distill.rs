//! Settings of `train distill` (`[distill]`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Products;
use crate::keys::{at_least, not_negative};
use crate::nn::gemm::Precision;

/// How the training sources are translated, and which translations are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// Bundle of the teacher; by default `ar/bundle` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Folder of a Marian model (OPUS-MT) to use instead of that teacher, in Hugging Face's format: config.json,
    /// model.safetensors or pytorch_model.bin, source.spm and vocab.json. It ignores `products` and `batch_tokens`,
    /// and lengths are counted in its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marian: Option<PathBuf>,
    /// Folder of the text and its manifest; by default `distilled` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Width of the beam; 1 is greedy search.
    pub beam: usize,
    /// Exponent α of the length normalization: a candidate's log-probability is divided by (tokens with eos)^α.
    pub length_penalty: f32,
    /// Padded source tokens of a batch, times the width of the beam.
    pub batch_tokens: usize,
    pub products: Products,
    /// Sentences of a chunk. A stopped run loses at most one chunk.
    pub chunk: usize,
    /// Drops translations with more tokens than this many times the source's, or fewer than the source's divided by
    /// this. A difference of up to four tokens is always accepted.
    pub max_length_ratio: f64,
    /// Drops translations that repeat this many tokens in a row; 0 keeps all.
    pub repeated_ngram: usize,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            teacher: None,
            marian: None,
            output: None,
            beam: 4,
            length_penalty: 1.0,
            batch_tokens: 4096,
            products: Products::F32,
            chunk: 2000,
            max_length_ratio: 2.0,
            repeated_ngram: 4,
        }
    }
}

impl Distill {
    pub fn teacher(&self, output: &Path) -> PathBuf {
        self.teacher.clone().unwrap_or_else(|| output.join("ar").join("bundle"))
    }

    pub fn output(&self, output: &Path) -> PathBuf {
        self.output.clone().unwrap_or_else(|| output.join("distilled"))
    }

    pub fn precision(&self) -> Precision {
        self.products.into()
    }

    /// # Errors
    /// The first invalid key.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (key, value) in [("beam", self.beam), ("batch_tokens", self.batch_tokens), ("chunk", self.chunk)]
        {
            at_least(&format!("distill.{key}"), value, 1)?;
        }
        if self.teacher.is_some() && self.marian.is_some() {
            return Err("distill.teacher and distill.marian are both given; leave one of them out".into());
        }
        at_least("distill.max_length_ratio", self.max_length_ratio, 1.0)?;
        not_negative("distill.length_penalty", self.length_penalty.into())
    }
}

/// The source file and the target file in a folder of distilled text.
pub fn files(folder: &Path, source_lang: &str, target_lang: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("train.{source_lang}")), folder.join(format!("train.{target_lang}")))
}
