//! Settings of `train distill` (`[distill]`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Products;
use crate::nn::gemm::Precision;

/// How the training sources are translated, and which translations are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// Bundle of the teacher; by default `ar/bundle` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Folder of a Marian model (OPUS-MT) that translates instead of that teacher: config.json, model.safetensors or
    /// pytorch_model.bin, source.spm and vocab.json in Hugging Face's format. It ignores `products` and `batch_tokens`, and
    /// sentences are counted in its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marian: Option<PathBuf>,
    /// Folder for the text and its manifest; by default `distilled` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Width of the beam; 1 is greedy search.
    pub beam: usize,
    /// α of (tokens with eos)^α, by which a candidate's log-probability is divided.
    pub length_penalty: f32,
    /// Padded source tokens of a batch, times the beam.
    pub batch_tokens: usize,
    pub products: Products,
    /// Sentences of a chunk. A stopped run loses at most one chunk.
    pub chunk: usize,
    /// A translation of more tokens than this many times its source's, or of fewer than its source's over
    /// this, is dropped; a difference of up to four tokens never is.
    pub max_length_ratio: f64,
    /// A translation that repeats this many tokens in a row is dropped; 0 keeps all.
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

    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self) -> Result<(), String> {
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        for (key, value) in [("beam", self.beam), ("batch_tokens", self.batch_tokens), ("chunk", self.chunk)]
        {
            rule(value > 0, format!("distill.{key} is 0; it must be at least 1"))?;
        }
        let both = self.teacher.is_some() && self.marian.is_some();
        rule(!both, "distill.teacher and distill.marian are both given; one of them translates".to_owned())?;
        let (ratio, penalty) = (self.max_length_ratio, self.length_penalty);
        rule(ratio >= 1.0, format!("distill.max_length_ratio is {ratio}; it must be at least 1"))?;
        let fits = penalty >= 0.0 && penalty.is_finite();
        rule(fits, format!("distill.length_penalty is {penalty}; it must be 0 or more"))
    }
}

/// The source file and the target file in a folder of distilled text.
pub fn files(folder: &Path, source_lang: &str, target_lang: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("train.{source_lang}")), folder.join(format!("train.{target_lang}")))
}
