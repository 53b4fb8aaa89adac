//! A Marian model (OPUS-MT) as the autoregressive teacher: a folder in Hugging Face's format with `config.json`,
//! `model.safetensors` or `pytorch_model.bin`, `source.spm` and `vocab.json`.
//!
//! The network is candle-transformers'. It has no padding mask, so each sentence is translated alone, which also
//! makes its translation independent of the others. It cannot reorder its cache, so each candidate is decoded from
//! its start. This is slower than a teacher of `train ar`, but a corpus is translated only once.

mod sentencepiece;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::marian::{Config, MTModel};
use rayon::prelude::*;

use self::sentencepiece::{SPACE, SentencePiece};
use crate::decode::{SearchOptions, SearchResult, search_prefixes};
use crate::{Error, Result, files};

/// The advice for an incomplete folder.
const FOLDER_FORMAT: &str = "a Marian model's folder has config.json, model.safetensors or pytorch_model.bin, source.spm and \
                   vocab.json, in Hugging Face's format (for example Helsinki-NLP/opus-mt-en-de)";

pub struct Marian {
    config: Config,
    model: MTModel,
    source: SentencePiece,
    ids: HashMap<String, u32>,
    tokens: Vec<String>,
    unknown: u32,
    /// The result of [`checksum`].
    pub checksum: String,
}

/// The files of a model's folder: configuration, vocabulary, pieces and weights.
///
/// # Errors
/// [`Error::Bundle`] for a missing file.
pub fn require_files(folder: &Path) -> Result<[PathBuf; 4]> {
    let [settings, vocabulary, pieces] =
        ["config.json", "vocab.json", "source.spm"].map(|name| folder.join(name));
    let files = [settings, vocabulary, pieces, weights(folder)];
    match files.iter().find(|path| !path.is_file()) {
        Some(path) => Err(Error::bundle(path, format!("is missing; {FOLDER_FORMAT}"))),
        None => Ok(files),
    }
}

/// SHA-256 of all files that affect a translation, in hexadecimal.
///
/// # Errors
/// As [`require_files`].
pub fn checksum(folder: &Path) -> Result<String> {
    files::checksum_of_all(require_files(folder)?)
}

/// The file of the weights. Like transformers, prefers model.safetensors.
fn weights(folder: &Path) -> PathBuf {
    let (plain, pickled) = (folder.join("model.safetensors"), folder.join("pytorch_model.bin"));
    if pickled.exists() && !plain.exists() { pickled } else { plain }
}

impl Marian {
    /// # Errors
    /// [`Error::Bundle`] for a missing or invalid file, with what was expected.
    pub fn open(folder: &Path) -> Result<Self> {
        let [settings, vocabulary, pieces, weights] = require_files(folder)?;
        let config = read_config(&settings)?;
        let ids = read_vocabulary(&vocabulary, &config)?;
        let missing = || Error::bundle(&vocabulary, "has no token <unk>");
        let unknown = ids.get("<unk>").copied().ok_or_else(missing)?;
        let mut tokens = vec![String::new(); config.vocab_size];
        ids.iter().for_each(|(token, &id)| tokens[id as usize] = token.clone());
        let tensors = read_tensors(&weights)?;
        let source = SentencePiece::read(&pieces)?;
        let variables = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = MTModel::new(&config, variables).map_err(|e| Error::bundle(&weights, e.to_string()))?;
        Ok(Self { checksum: checksum(folder)?, config, model, source, ids, tokens, unknown })
    }

    /// The ids of a sentence, with eos at the end. Pieces outside the vocabulary become `<unk>`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let pieces = self.source.pieces(text)?;
        let ids = pieces.iter().map(|piece| self.ids.get(piece).copied().unwrap_or(self.unknown));
        Ok(ids.chain([self.config.eos_token_id]).collect())
    }

    /// The text of a translation.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let pieces = tokens.iter().filter_map(|&id| self.tokens.get(id as usize));
        pieces.cloned().collect::<String>().replace(SPACE, " ").trim().to_owned()
    }

    /// Largest number of tokens of a sentence, eos included.
    pub fn limit(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// The best translation of each of `sources`, which come from [`Self::encode`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a sentence above [`Self::limit`]; [`Error::Model`] if the computation fails.
    pub fn search(&self, sources: &[Vec<u32>], options: &SearchOptions) -> Result<Vec<SearchResult>> {
        sources.par_iter().map(|source| self.search_one(source, options)).collect()
    }

    fn search_one(&self, source: &[u32], options: &SearchOptions) -> Result<SearchResult> {
        let (limit, size) = (self.limit(), source.len());
        if size > limit {
            return Err(Error::TooLarge { what: "tokens of a sentence", size, limit });
        }
        if size <= 1 {
            return Ok(SearchResult { finished: true, ..SearchResult::default() });
        }
        // The weights are shared; a copy has its own cache.
        let mut model = self.model.clone();
        let memory = encoded(&mut model, source)?;
        // The decoder reads the start symbol and the tokens.
        let max_tokens = (2 * (size - 1) + 10).min(limit - 1);
        search_prefixes(max_tokens, options, self.config.eos_token_id, |prefixes, count| {
            let logits = self.logits(&mut model, &memory, prefixes)?;
            Ok(logits.iter().map(|logits| self.top(logits, count)).collect())
        })
    }

    /// The scores of the next token after each prefix, all of one length: `[prefixes][vocab]`.
    fn logits(&self, model: &mut MTModel, memory: &Tensor, prefixes: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let start = self.config.decoder_start_token_id;
        let ids: Vec<u32> = prefixes.iter().flat_map(|p| [&[start], *p].concat()).collect();
        let (rows, width) = (prefixes.len(), ids.len() / prefixes.len().max(1));
        let ids = Tensor::from_vec(ids, (rows, width), &Device::Cpu)?;
        let memory = memory.repeat((rows, 1, 1))?;
        model.decoder().reset_kv_cache();
        let logits = model.decode(&ids, &memory, 0)?;
        Ok(logits.narrow(1, width - 1, 1)?.squeeze(1)?.to_vec2()?)
    }

    /// The best `count` tokens with their log-probabilities, best first; ties go to the lower id. Excludes padding,
    /// which starts a translation, and `<unk>`, which would become text (like Marian without `--allow-unk`).
    fn top(&self, logits: &[f32], count: usize) -> Vec<(u32, f32)> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum = highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f32>().ln();
        let forbidden = [self.config.pad_token_id, self.unknown];
        let allowed = (0..).zip(logits).filter(|(id, _)| !forbidden.contains(id));
        let mut all: Vec<(u32, f32)> = allowed.map(|(id, logit)| (id, logit - sum)).collect();
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if count < all.len() {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_by(order);
        all
    }
}

/// The encoder states of one sentence: `[1, len, d]`.
fn encoded(model: &mut MTModel, source: &[u32]) -> Result<Tensor> {
    let ids = Tensor::new(source, &Device::Cpu)?.unsqueeze(0)?;
    model.encoder().reset_kv_cache();
    Ok(model.encoder().forward(&ids, 0)?)
}

fn read_config(path: &Path) -> Result<Config> {
    let wrong = |reason: String| Error::bundle(path, reason);
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let kind = value.get("model_type").and_then(|kind| kind.as_str()).unwrap_or("unknown");
    if kind != "marian" {
        return Err(wrong(format!("is for a model of type {kind:?}; only marian is supported")));
    }
    let config: Config = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(wrong(what.to_owned())) };
    let (d, vocab) = (config.d_model, config.vocab_size);
    rule(d > 0 && d.is_multiple_of(2), "d_model must be even and more than 0")?;
    let heads = config.decoder_attention_heads;
    rule(heads > 0 && d.is_multiple_of(heads), "d_model must be a multiple of the number of heads")?;
    // candle-transformers 0.11 uses the decoder's number of heads in the encoder.
    rule(heads == config.encoder_attention_heads, "encoder and decoder must have the same number of heads")?;
    rule(config.max_position_embeddings > 1, "max_position_embeddings must be at least 2")?;
    rule(
        config.share_encoder_decoder_embeddings && config.decoder_vocab_size.is_none_or(|size| size == vocab),
        "source and target have separate vocabularies; only models with a common one are supported",
    )?;
    let ids = [config.decoder_start_token_id, config.pad_token_id, config.eos_token_id];
    rule(ids.iter().all(|&id| (id as usize) < vocab), "a special token lies outside the vocabulary")?;
    Ok(config)
}

/// The id of each token. Padding is the last token of OPUS-MT vocabularies, so its id reveals files of another model.
fn read_vocabulary(path: &Path, config: &Config) -> Result<HashMap<String, u32>> {
    let size = config.vocab_size;
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let ids: HashMap<String, u32> =
        serde_json::from_str(&text).map_err(|e| Error::bundle(path, e.to_string()))?;
    let other = |reason: String| Err(Error::bundle(path, format!("{reason}; take both from one model")));
    if let Some((token, id)) = ids.iter().find(|&(_, &id)| id as usize >= size) {
        return other(format!("has {token:?} as {id}, but config.json has only {size} tokens"));
    }
    for (token, id) in [("</s>", config.eos_token_id), ("<pad>", config.pad_token_id)] {
        match ids.get(token) {
            Some(&own) if own == id => {}
            Some(own) => return other(format!("has {token} as {own}, but config.json has it as {id}")),
            None => return other(format!("has no token {token}, which config.json has as {id}")),
        }
    }
    Ok(ids)
}

/// Reads tensors as f32 on the CPU, by name.
fn read_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let pickled = path.extension().is_some_and(|extension| extension == "bin");
    let read = || -> candle_core::Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::new();
        if pickled {
            let file = PthTensors::new(path, None)?;
            for name in file.tensor_infos().keys() {
                tensors.extend(file.get(name)?.map(|tensor| (name.clone(), tensor)));
            }
        } else {
            tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        }
        tensors.into_iter().map(|(name, t)| Ok((name, t.to_dtype(DType::F32)?.contiguous()?))).collect()
    };
    // candle's pickle reader panics on some malformed files.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| Error::bundle(path, e.to_string())),
        Err(_) => Err(Error::bundle(path, "cannot be read: it is malformed")),
    }
}

#[cfg(test)]
mod tests;
