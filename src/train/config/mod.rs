//! The TOML file of a run. It is validated before anything is built from it.
//!
//! An unknown key is an error with its line and a suggestion. `--set train.updates=100` overrides a key by its dotted
//! name.
//!
//! The server reads its settings with figment, which merges several sources but forgets the lines of a file. A run has
//! many sections and tables, whose errors need a line. No variable is read: the file and `--set` alone define a run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keys::{self, at_least, at_most, below_one, not_negative, positive, with_suggestion};
use crate::model::check_language;
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
pub use dims::{Auto, Dims, Mask, Target, TeacherDecay};
pub use distill::{Distill, files as distilled_files};
pub use imputer::{Imputer, SlotMask};
pub use lines::{LengthLimit, OnBadLine};
pub use mixture::{Augment, CorpusConfig, ValidationConfig};
pub use model::Model;
pub use pipeline::{Pipeline, StageName};
pub use train::{Products, Train};

/// The configuration of a run. `train tokenizer` reads `data` and `tokenizer`; `train parallel` also `model` and
/// `train`; other stages have a section that overrides `train`. `train run` reads all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of checkpoints, log and bundle.
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
    /// One warning for each old name that was used.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folder that the following paths are relative to; itself relative to the working directory.
    #[serde(default)]
    pub root: PathBuf,
    /// Training text: one file or several, plain or gzip. Line n of a source file pairs with line n of its target
    /// file.
    #[serde(with = "paths", default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<PathBuf>,
    /// Only U-DiMS can do without it.
    #[serde(with = "paths", default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<PathBuf>,
    /// Folder written by `train distill`, relative to the working directory. Training uses its text instead of
    /// `source` and `target`; validation still uses human references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled: Option<PathBuf>,
    /// Validation text; use `validation` for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_source: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_target: Option<PathBuf>,
    /// Language codes, as the server will report them.
    pub source_lang: String,
    pub target_lang: String,
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// Longer sentences are bad lines. Counts bos and eos.
    #[serde(default = "Data::default_max_tokens")]
    pub max_tokens_per_sentence: usize,
    /// Replaces `source` and `target`: corpora that are sampled by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<CorpusConfig>,
    /// Replaces `valid_source` and `valid_target`. Each text has its own scores; the best checkpoint has the best
    /// mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<ValidationConfig>,
    /// Without this section text is used unchanged; without keys it has the default rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Number of entries, special tokens included.
    pub vocab_size: usize,
    /// Number of these that stand for protected spans, at most 32.
    #[serde(default)]
    pub reserved: usize,
    /// Written by `train tokenizer`, read by the other stages.
    pub path: PathBuf,
}

impl Data {
    fn default_max_tokens() -> usize {
        256
    }

    /// Pairs of training files: the distilled ones, if given.
    pub fn train_files(&self) -> Vec<(PathBuf, PathBuf)> {
        match &self.distilled {
            Some(folder) => vec![distill::files(folder, &self.source_lang, &self.target_lang)],
            None => self.original_files(),
        }
    }

    /// Pairs of original training files.
    pub fn original_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let pair = |(s, t): (&PathBuf, &PathBuf)| (self.root.join(s), self.root.join(t));
        let own = self.source.iter().zip(&self.target).map(pair);
        own.chain(self.corpora.iter().flat_map(|corpus| corpus.files(&self.root))).collect()
    }

    /// Original source files.
    pub fn source_files(&self) -> Vec<PathBuf> {
        let corpora = self.corpora.iter().flat_map(|corpus| &corpus.source);
        self.source.iter().chain(corpora).map(|path| self.root.join(path)).collect()
    }
}

impl Config {
    /// Reads and validates a file. `overrides` are `key=value` with dotted keys and TOML values; a value that is not
    /// TOML is a string.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Config`], which names the key.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let mut config: Self = toml::from_str(&text).map_err(|e| named(path, &e))?;
        let file: toml::Table = toml::from_str(&text).map_err(|e| named(path, &e))?;
        config.warnings = pipeline::warnings(&file);
        if !overrides.is_empty() {
            config = config.with_overrides(overrides)?;
        }
        config.validate().map_err(|reason| Error::Config(format!("{}: {reason}", path.display())))?;
        Ok(config)
    }

    /// The effective configuration, overrides included, as TOML: for checkpoints and model cards.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }

    fn with_overrides(&self, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table =
            toml::from_str(&self.to_toml()?).map_err(|e| Error::Config(e.to_string()))?;
        for text in overrides {
            let wrong = |reason: String| Error::Config(format!("--set {text}: {reason}"));
            let (key, value) = keys::key_value(text).map_err(Error::Config)?;
            let mut names: Vec<&str> = key.split('.').collect();
            let last = names.pop().unwrap_or_default();
            let mut section = &mut table;
            for name in names {
                // A section that the file leaves out has its defaults; an unknown one is reported below.
                let inner = section.entry(name).or_insert_with(|| toml::Table::new().into());
                section =
                    inner.as_table_mut().ok_or_else(|| wrong(format!("{name} is a value, not a section")))?;
            }
            section.insert(last.to_owned(), parse_value(value));
            // Checked after each override, so that the message names the right one.
            table.clone().try_into::<Self>().map_err(|e| wrong(with_suggestion(e.message())))?;
        }
        let mut warnings = self.warnings.clone();
        warnings.extend(pipeline::warnings(&table).into_iter().filter(|new| !self.warnings.contains(new)));
        let config: Self = table.try_into().map_err(|e| Error::Config(e.to_string()))?;
        Ok(Self { warnings, ..config })
    }

    /// # Errors
    /// The first invalid key: its value, and what it must be.
    fn validate(&self) -> Result<(), String> {
        let Self { data, tokenizer, model, train, ar, distill, dims, .. } = self;
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };

        let unsupervised = dims.as_ref().is_some_and(|dims| dims.unsupervised);
        data.validate_texts(unsupervised && data.target.is_empty())?;
        for (key, code) in [("source_lang", &data.source_lang), ("target_lang", &data.target_lang)] {
            check_language(code).map_err(|reason| format!("data.{key}: {reason}"))?;
        }
        let (sentence, positions) = (data.max_tokens_per_sentence, model.max_positions);
        // bos, a word and eos.
        at_least("data.max_tokens_per_sentence", sentence, 3)?;
        at_most("data.max_tokens_per_sentence", sentence, "model.max_positions", positions)?;
        rule(
            train.batch_tokens >= sentence,
            format!(
                "train.batch_tokens must be at least data.max_tokens_per_sentence ({sentence}), not {}",
                train.batch_tokens
            ),
        )?;
        // 256 bytes and the special tokens are 261.
        at_least("tokenizer.vocab_size", tokenizer.vocab_size, 300)?;
        keys::in_range("tokenizer.reserved", tokenizer.reserved, 0, Specials::MAX_RESERVED)?;

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
            at_least(key, value, 1)?;
        }
        let (micro, ranks) = (train.accumulate, train.ranks);
        rule(
            micro.is_multiple_of(ranks),
            format!(
                "train.accumulate ({micro}) is not a multiple of train.ranks ({ranks}): all ranks take the same number of micro-batches"
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
            below_one(&format!("train.{key}"), value)?;
        }
        for (key, value) in [
            ("length_loss_weight", train.length_loss_weight),
            ("weight_decay", train.weight_decay),
            ("clip", train.clip),
        ] {
            not_negative(&format!("train.{key}"), value)?;
        }
        for (key, value) in [("learning_rate", train.learning_rate), ("eps", train.eps)] {
            positive(&format!("train.{key}"), value)?;
        }
        at_most("train.average_best", train.average_best, "train.keep_best", train.keep_best)?;
        at_most("train.cooldown", train.cooldown, "train.updates", train.updates)?;
        rule(
            self.cmlmc.is_none() || self.imputer.is_none(),
            "[cmlmc] and [imputer] are different models; leave one of them out".into(),
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

/// Parses a TOML value. Anything else is a string, so that paths and language codes need no quotes on a command line.
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
