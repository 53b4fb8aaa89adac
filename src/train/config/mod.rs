//! The TOML file of a run, validated before anything is built from it.
//!
//! An unknown key is an error with its line and a suggestion. `--set train.updates=100` overrides a key by its dotted name.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::check_language;
use crate::suggest::with_suggestion;
use crate::text::Specials;
use crate::{Error, Result};

mod ar;
mod cmlmc;
mod dims;
mod distill;
mod imputer;
mod lines;
mod mixture;
mod model;
mod paths;
mod pipeline;
mod train;

pub use ar::Ar;
pub use cmlmc::Cmlmc;
pub use dims::{Auto, Dims, Following, Mask, Target};
pub use distill::{Distill, files as distilled_files};
pub use imputer::{Imputer, SlotMask};
pub use lines::{LengthLimit, OnBadLine};
pub use mixture::{Augment, CorpusConfig, ValidationConfig};
pub use model::Model;
pub use pipeline::{Pipeline, StageName};
pub use train::{OptimizerKind, Products, Train};

/// A whole run: `train tokenizer` reads `data` and `tokenizer`, `train parallel` these, `model` and `train`;
/// the other stages have a section of their own that says what differs. `train run` reads everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where checkpoints, the log and the finished bundle go.
    pub output: PathBuf,
    pub data: Data,
    pub tokenizer: Tokenizer,
    #[serde(default)]
    pub model: Model,
    #[serde(default)]
    pub train: Train,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmlmc: Option<Cmlmc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imputer: Option<Imputer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ar: Option<Ar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dims: Option<Dims>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Pipeline>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files are looked for from here, and this from the working directory.
    #[serde(default)]
    pub root: PathBuf,
    /// Training text; one file or several, plain or gzip, line n of a source file with line n of its target file.
    #[serde(with = "paths", default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<PathBuf>,
    /// Without it there is nothing but U-DiMS to do.
    #[serde(with = "paths", default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<PathBuf>,
    /// Folder of `train distill`, from the working directory: its text takes the place of `source` and
    /// `target` in training; validation stays on real references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled: Option<PathBuf>,
    /// Text to validate with; several such texts stand in `validation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_source: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_target: Option<PathBuf>,
    /// Language codes, as the server will name them.
    pub source_lang: String,
    pub target_lang: String,
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// A longer sentence is a bad line; `bos` and `eos` counted.
    #[serde(default = "Data::default_max_tokens")]
    pub max_tokens_per_sentence: usize,
    /// In place of `source` and `target`: corpora that are sampled by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<CorpusConfig>,
    /// In place of `valid_source` and `valid_target`: each is scored by its name, and the best checkpoint has the best
    /// mean of their scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<ValidationConfig>,
    /// Without the section the text is used as it is; a section without keys has the default rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Entries, special tokens counted.
    pub vocab_size: usize,
    /// Of these, tokens that stand for protected spans, at most 32.
    #[serde(default)]
    pub reserved: usize,
    /// Where `train tokenizer` writes it and `train parallel` reads it.
    pub path: PathBuf,
}

impl Data {
    fn default_max_tokens() -> usize {
        256
    }

    /// Pairs of training files: the distilled ones, where there are such.
    pub fn train_files(&self) -> Vec<(PathBuf, PathBuf)> {
        match &self.distilled {
            Some(folder) => vec![distill::files(folder, &self.source_lang, &self.target_lang)],
            None => self.original_files(),
        }
    }

    /// Pairs of files as people wrote them.
    pub fn original_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let pair = |(s, t): (&PathBuf, &PathBuf)| (self.root.join(s), self.root.join(t));
        let own = self.source.iter().zip(&self.target).map(pair);
        own.chain(self.corpora.iter().flat_map(|corpus| corpus.files(&self.root))).collect()
    }

    /// Source files as people wrote them.
    pub fn source_files(&self) -> Vec<PathBuf> {
        let corpora = self.corpora.iter().flat_map(|corpus| &corpus.source);
        self.source.iter().chain(corpora).map(|path| self.root.join(path)).collect()
    }
}

impl Config {
    /// Reads a file, with `key=value` overrides (dotted keys, TOML values; a value that is no TOML is
    /// a string), and validates.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let config: Self = toml::from_str(&text).map_err(|e| named(path, &e))?;
        let config = if overrides.is_empty() { config } else { config.with_overrides(overrides)? };
        config.validate().map_err(|reason| Error::Config(format!("{}: {reason}", path.display())))?;
        Ok(config)
    }

    /// The configuration that holds, overrides included, as TOML: for checkpoints and model cards.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }

    fn with_overrides(&self, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table =
            toml::from_str(&self.to_toml()?).map_err(|e| Error::Config(e.to_string()))?;
        for text in overrides {
            let wrong = |reason: String| Error::Config(format!("--set {text}: {reason}"));
            let (key, value) = text.split_once('=').ok_or_else(|| wrong("expected key=value".into()))?;
            let mut names: Vec<&str> = key.trim().split('.').collect();
            let last = names.pop().unwrap_or_default();
            let mut section = &mut table;
            for name in names {
                // A section that the file leaves out has its defaults; one that is unknown shows below.
                let inner = section.entry(name).or_insert_with(|| toml::Table::new().into());
                section =
                    inner.as_table_mut().ok_or_else(|| wrong(format!("{name} is a value, not a section")))?;
            }
            section.insert(last.to_owned(), parse_value(value.trim()));
            // At once, so that the message is about this one.
            table.clone().try_into::<Self>().map_err(|e| wrong(with_suggestion(e.message())))?;
        }
        table.try_into().map_err(|e| Error::Config(e.to_string()))
    }

    /// What is wrong with the values, if anything: the key, its value, and what it should be.
    fn validate(&self) -> Result<(), String> {
        let Self { data, tokenizer, model, train, ar, distill, dims, .. } = self;
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };

        let unsupervised = dims.as_ref().is_some_and(|dims| dims.unsupervised);
        data.validate_texts(unsupervised && data.target.is_empty())?;
        for (key, code) in [("source_lang", &data.source_lang), ("target_lang", &data.target_lang)] {
            check_language(code).map_err(|reason| format!("data.{key}: {reason}"))?;
        }
        let (sentence, positions) = (data.max_tokens_per_sentence, model.max_positions);
        rule(
            sentence >= 3,
            format!("data.max_tokens_per_sentence is {sentence}; bos, a word and eos are 3"),
        )?;
        rule(
            sentence <= positions,
            format!("data.max_tokens_per_sentence ({sentence}) exceeds model.max_positions ({positions})"),
        )?;
        let (batch, vocabulary) = (train.batch_tokens, tokenizer.vocab_size);
        rule(
            batch >= sentence,
            format!("train.batch_tokens ({batch}) is less than data.max_tokens_per_sentence ({sentence})"),
        )?;
        rule(
            vocabulary >= 300,
            format!("tokenizer.vocab_size is {vocabulary}; bytes and specials alone are 261"),
        )?;
        rule(
            tokenizer.reserved <= Specials::MAX_RESERVED,
            format!(
                "tokenizer.reserved is {}; at most {} are possible",
                tokenizer.reserved,
                Specials::MAX_RESERVED
            ),
        )?;

        for (key, value) in [
            ("model.encoder_layers", model.encoder_layers as u64),
            ("model.decoder_layers", model.decoder_layers as u64),
            ("model.d_model", model.d_model as u64),
            ("model.ffn", model.ffn as u64),
            ("model.heads", model.heads as u64),
            ("train.accumulate", train.accumulate as u64),
            ("train.ranks", train.ranks as u64),
            ("train.updates", train.updates),
            ("train.warmup", train.warmup),
            ("train.validate_every", train.validate_every),
            ("train.checkpoint_every", train.checkpoint_every),
            ("train.log_every", train.log_every),
            ("train.keep_last", train.keep_last as u64),
            ("train.valid_sentences", train.valid_sentences as u64),
            ("train.max_skips_in_a_row", train.max_skips_in_a_row.into()),
        ] {
            rule(value > 0, format!("{key} is 0; it must be at least 1"))?;
        }
        let (micro, ranks) = (train.accumulate, train.ranks);
        rule(
            micro.is_multiple_of(ranks),
            format!(
                "train.accumulate ({micro}) is no multiple of train.ranks ({ranks}): each takes as many micro-batches"
            ),
        )?;
        let (width, heads) = (model.d_model, model.heads);
        rule(
            width.is_multiple_of(heads),
            format!("model.d_model ({width}) is not a multiple of model.heads ({heads})"),
        )?;

        for (key, value) in [
            ("dropout", train.dropout),
            ("label_smoothing", train.label_smoothing),
            ("ema_decay", train.ema_decay),
            ("betas[0]", train.betas.0),
            ("betas[1]", train.betas.1),
        ] {
            rule((0.0..1.0).contains(&value), format!("train.{key} is {value}; it must lie in [0, 1)"))?;
        }
        for (key, value) in [
            ("length_loss_weight", train.length_loss_weight),
            ("weight_decay", train.weight_decay),
            ("clip", train.clip),
        ] {
            let fits = value >= 0.0 && value.is_finite();
            rule(fits, format!("train.{key} is {value}; it must be 0 or more"))?;
        }
        for (key, value) in [("learning_rate", train.learning_rate), ("eps", train.eps)] {
            let fits = value > 0.0 && value.is_finite();
            rule(fits, format!("train.{key} is {value}; it must be more than 0"))?;
        }
        let (average, kept) = (train.average_best, train.keep_best);
        rule(average <= kept, format!("train.average_best ({average}) exceeds train.keep_best ({kept})"))?;
        let (cooldown, updates) = (train.cooldown, train.updates);
        rule(cooldown <= updates, format!("train.cooldown ({cooldown}) exceeds train.updates ({updates})"))?;
        rule(
            self.cmlmc.is_none() || self.imputer.is_none(),
            "[cmlmc] and [imputer] are two models; leave one of them out".into(),
        )?;
        self.cmlmc.as_ref().map_or(Ok(()), Cmlmc::validate)?;
        self.imputer.as_ref().map_or(Ok(()), Imputer::validate)?;
        ar.as_ref().map_or(Ok(()), |ar| ar.validate(train))?;
        distill.as_ref().map_or(Ok(()), Distill::validate)?;
        dims.as_ref().map_or(Ok(()), |dims| dims.validate(train))?;
        let guesses = dims.as_ref().is_some_and(|dims| dims.teacher.is_none() && dims.length_beam > 0);
        rule(!(self.imputer.is_some() && guesses), Dims::NO_LENGTHS.into())?;
        self.pipeline.as_ref().map_or(Ok(()), Pipeline::validate)
    }
}

/// A TOML value, or a string where it is none: paths and language codes need no quotes on a command line.
fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn named(path: &Path, error: &toml::de::Error) -> Error {
    Error::Config(format!("{}: {}", path.display(), with_suggestion(&error.to_string())))
}

#[cfg(test)]
mod tests;
