//! `[[data.corpora]]`, `[[data.validation]]` and `[data.augment]`: several corpora, sampled by weight.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Data;
use crate::keys::{at_least, in_range, positive};

/// One of the corpora that training text is sampled from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Name in the log and in error messages.
    pub name: String,
    /// One file or several, like `data.source` and `data.target`.
    #[serde(with = "super::paths")]
    pub source: Vec<PathBuf>,
    #[serde(with = "super::paths")]
    pub target: Vec<PathBuf>,
    /// Share of the sampled sentence pairs (not tokens), relative to the weights of the other corpora.
    #[serde(default = "one")]
    pub weight: f64,
    /// Largest mean number of times that a pair is used in one epoch. Limits the share of small corpora.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Number of usable pairs to read, from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pairs: Option<usize>,
    /// Number of pairs to read, from the start, of those whose sources differ only in case, digits and punctuation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_repeats: Option<usize>,
}

/// One of the texts that a run is validated with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Name of its scores in the log.
    pub name: String,
    pub source: PathBuf,
    pub target: PathBuf,
}

/// Random changes to training text, drawn each time a sentence is used. Names and rates follow OpusTrainer where it
/// has them (`UpperCase`, `TitleCase`, `Merge`, `Typos`). A sentence that would become too long stays unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Both sides in upper case.
    pub upper_case: f64,
    /// The first letter of each word in upper case, on both sides.
    pub title_case: f64,
    /// Removes the final punctuation mark, if both sides have one.
    pub no_final_mark: f64,
    /// Joins a sentence with the one to three sampled after it, if they fit.
    pub join: f64,
    /// Typing errors in the letters of the source.
    pub typos: f64,
    /// Share of the sentences with spans (addresses, placeholders, numbers) on both sides in which these become
    /// reserved tokens.
    pub spans: f64,
    /// Inserts an emoji at the same relative position on both sides.
    pub emoji: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            upper_case: 0.05,
            title_case: 0.05,
            no_final_mark: 0.1,
            join: 0.1,
            typos: 0.03,
            spans: 0.5,
            emoji: 0.01,
        }
    }
}

impl Augment {
    /// No changes.
    pub const NONE: Self = Self {
        upper_case: 0.0,
        title_case: 0.0,
        no_final_mark: 0.0,
        join: 0.0,
        typos: 0.0,
        spans: 0.0,
        emoji: 0.0,
    };

    fn validate(&self) -> Result<(), String> {
        let Self { upper_case, title_case, no_final_mark, join, typos, spans, emoji } = *self;
        for (key, rate) in [
            ("upper_case", upper_case),
            ("title_case", title_case),
            ("no_final_mark", no_final_mark),
            ("join", join),
            ("typos", typos),
            ("spans", spans),
            ("emoji", emoji),
        ] {
            in_range(&format!("data.augment.{key}"), rate, 0.0, 1.0)?;
        }
        Ok(())
    }
}

fn one() -> f64 {
    1.0
}

fn rule(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl CorpusConfig {
    /// Pairs of source and target files; relative paths start at `root`.
    pub fn files(&self, root: &Path) -> Vec<(PathBuf, PathBuf)> {
        let pair = |(s, t): (&PathBuf, &PathBuf)| (root.join(s), root.join(t));
        self.source.iter().zip(&self.target).map(pair).collect()
    }

    fn validate(&self) -> Result<(), String> {
        let Self { name, source, target, weight, cap, max_pairs, max_repeats } = self;
        rule(!name.trim().is_empty(), || "a corpus of data.corpora has an empty name".into())?;
        rule(!source.is_empty() && source.len() == target.len(), || {
            let (sources, targets) = (source.len(), target.len());
            format!("data.corpora {name}: source has {sources} files, target {targets}")
        })?;
        let key = |key: &str| format!("data.corpora {name}: {key}");
        for (name, value) in [("weight", Some(*weight)), ("cap", *cap)] {
            value.map_or(Ok(()), |value| positive(&key(name), value))?;
        }
        for (name, value) in [("max_pairs", max_pairs), ("max_repeats", max_repeats)] {
            value.map_or(Ok(()), |value| at_least(&key(name), value, 1))?;
        }
        Ok(())
    }
}

impl Data {
    /// The corpora that training text is sampled from, with resolved paths: `corpora`, or the single corpus if it is
    /// augmented. `None` if each pair is used once an epoch, unchanged.
    pub fn mixture(&self) -> Option<Vec<CorpusConfig>> {
        let resolved = |corpus: &CorpusConfig, files: Vec<(PathBuf, PathBuf)>| {
            let (source, target) = files.into_iter().unzip();
            CorpusConfig { source, target, ..corpus.clone() }
        };
        if !self.corpora.is_empty() {
            return Some(
                self.corpora.iter().map(|corpus| resolved(corpus, corpus.files(&self.root))).collect(),
            );
        }
        self.augment?;
        let only = CorpusConfig {
            name: "train".into(),
            source: Vec::new(),
            target: Vec::new(),
            weight: 1.0,
            cap: None,
            max_pairs: None,
            max_repeats: None,
        };
        Some(vec![resolved(&only, self.train_files())])
    }

    /// The validation texts, with resolved paths.
    pub fn validation_sets(&self) -> Vec<ValidationConfig> {
        let resolve = |set: &ValidationConfig| ValidationConfig {
            name: set.name.clone(),
            source: self.root.join(&set.source),
            target: self.root.join(&set.target),
        };
        match (&self.valid_source, &self.valid_target) {
            (Some(source), Some(target)) => {
                let (name, source, target) = ("valid".into(), source.clone(), target.clone());
                vec![resolve(&ValidationConfig { name, source, target })]
            }
            _ => self.validation.iter().map(resolve).collect(),
        }
    }

    /// # Errors
    /// What is wrong with the named files. `sources_alone` if targets are not needed.
    pub(super) fn validate_texts(&self, sources_alone: bool) -> Result<(), String> {
        let (sources, targets) = (self.source.len(), self.target.len());
        if self.corpora.is_empty() {
            rule(sources > 0, || "data.source names no file".into())?;
            rule(sources == targets || sources_alone, || {
                format!("data.source has {sources} files, data.target {targets}")
            })?;
        } else {
            rule(sources == 0 && targets == 0 && self.distilled.is_none(), || {
                "[[data.corpora]] replaces data.source, data.target and data.distilled; leave one of them out"
                    .into()
            })?;
            rule(!sources_alone, || {
                "dims.unsupervised needs data.source instead of [[data.corpora]]".into()
            })?;
        }
        self.corpora.iter().try_for_each(CorpusConfig::validate)?;
        unique("data.corpora", self.corpora.iter().map(|corpus| &corpus.name))?;
        unique("data.validation", self.validation.iter().map(|set| &set.name))?;
        let plain = usize::from(self.valid_source.is_some()) + usize::from(self.valid_target.is_some());
        rule(plain != 1, || "data.valid_source and data.valid_target must be given together".into())?;
        rule(plain == 2 || !self.validation.is_empty(), || {
            "there is no validation text; give data.valid_source and data.valid_target, or [[data.validation]]".into()
        })?;
        rule(plain == 0 || self.validation.is_empty(), || {
            "data.valid_source and [[data.validation]] are both given; remove one of them".into()
        })?;
        self.augment.as_ref().map_or(Ok(()), Augment::validate)
    }
}

fn unique<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = Vec::new();
    for name in names {
        rule(!seen.contains(&name), || format!("{key} names {name} twice"))?;
        seen.push(name);
    }
    Ok(())
}
