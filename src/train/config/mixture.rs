//! `[[data.corpora]]`, `[[data.validation]]` and `[data.augment]`: several corpora, mixed by weight, in place of one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Data;

/// One of several corpora that training text is sampled from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// For the log and for error messages.
    pub name: String,
    /// One file or several, as `data.source` and `data.target`.
    #[serde(with = "super::paths")]
    pub source: Vec<PathBuf>,
    #[serde(with = "super::paths")]
    pub target: Vec<PathBuf>,
    /// Share of the sampled sentence pairs (not of the tokens), relative to the weights of the other corpora.
    #[serde(default = "one")]
    pub weight: f64,
    /// How often a pair is used in one epoch, on average, at most. A corpus that would need more has a smaller share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Only the first so many usable pairs are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pairs: Option<usize>,
    /// Of the pairs whose sources differ only in case, digits and punctuation, the first so many are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_repeats: Option<usize>,
}

/// One of several texts that a run is validated with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Scores are logged by it.
    pub name: String,
    pub source: PathBuf,
    pub target: PathBuf,
}

/// Changes to the training text, drawn for each sentence whenever it is used. Names and rates are those of
/// OpusTrainer where it has them (`UpperCase`, `TitleCase`, `Merge`, `Typos`). A sentence that a change makes too long
/// is used unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Both sides in upper case.
    pub upper_case: f64,
    /// The first letter of each word in upper case, on both sides.
    pub title_case: f64,
    /// Both sides without their final mark, where both have one.
    pub no_final_mark: f64,
    /// A sentence and the one to three sampled after it as one, as far as they fit.
    pub join: f64,
    /// Slips of the keyboard, in the letters of the source alone.
    pub typos: f64,
    /// Of the sentences with addresses, placeholders, numbers and so on that stand on both sides: how many have them
    /// as reserved tokens.
    pub spans: f64,
    /// An emoji at the same relative place on both sides.
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
    /// Text as it is.
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
            rule((0.0..=1.0).contains(&rate), || {
                format!("data.augment.{key} is {rate}; it must lie in [0, 1]")
            })?;
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
    /// Its pairs of files, looked for from `root`.
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
        for (key, value) in [("weight", Some(*weight)), ("cap", *cap)] {
            rule(value.is_none_or(|value| value > 0.0 && value.is_finite()), || {
                format!("data.corpora {name}: {key} must be more than 0")
            })?;
        }
        for (key, value) in [("max_pairs", max_pairs), ("max_repeats", max_repeats)] {
            rule(*value != Some(0), || format!("data.corpora {name}: {key} is 0; it must be at least 1"))?;
        }
        Ok(())
    }
}

impl Data {
    /// The corpora that training text is sampled from, paths resolved: those of the configuration, or its only one where
    /// that is to be augmented. None where the text is read as it is, each pair once an epoch.
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

    /// What a run is validated with, paths resolved.
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

    /// What is wrong with the files that are named, if anything. `sources_alone` where no target is needed.
    pub(super) fn validate_texts(&self, sources_alone: bool) -> Result<(), String> {
        let (sources, targets) = (self.source.len(), self.target.len());
        if self.corpora.is_empty() {
            rule(sources > 0, || "data.source names no file".into())?;
            rule(sources == targets || sources_alone, || {
                format!("data.source has {sources} files, data.target {targets}")
            })?;
        } else {
            rule(sources == 0 && targets == 0 && self.distilled.is_none(), || {
                "[[data.corpora]] takes the place of data.source, data.target and data.distilled; leave one of them out"
                    .into()
            })?;
            rule(!sources_alone, || "dims.unsupervised reads data.source, not [[data.corpora]]".into())?;
        }
        self.corpora.iter().try_for_each(CorpusConfig::validate)?;
        unique("data.corpora", self.corpora.iter().map(|corpus| &corpus.name))?;
        unique("data.validation", self.validation.iter().map(|set| &set.name))?;
        let plain = usize::from(self.valid_source.is_some()) + usize::from(self.valid_target.is_some());
        rule(plain != 1, || "data.valid_source and data.valid_target need each other".into())?;
        rule((plain == 2) != !self.validation.is_empty(), || {
            "what is a run validated with? Give data.valid_source and data.valid_target, or [[data.validation]]"
                .into()
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
