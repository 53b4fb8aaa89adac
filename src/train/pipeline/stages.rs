//! The table of stages: for each, what decides its outcome, what it leaves behind, what it costs, and
//! the function that runs it. Another stage is another entry here and in
//! [`StageName`](crate::train::config::StageName).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::Value;

use super::artifact::Artifact;
use super::record::Inputs;
use crate::train::config::{Config, StageName, Train};
use crate::train::run::End;
use crate::train::{cmlm, dims, vocabulary};
use crate::{Error, Result};

/// Settings of `[train]` that no weight depends on.
const WITHOUT_EFFECT: [&str; 5] = ["checkpoint_every", "keep_best", "keep_last", "log_every", "tensorboard"];

/// One stage of one run.
pub struct Stage {
    pub name: StageName,
    /// As this stage is to see it.
    pub config: Config,
    /// By section, what of the configuration decides the outcome.
    settings: BTreeMap<&'static str, Value>,
    /// Files and bundles that it reads, by their role.
    pub sources: Vec<(String, Artifact)>,
    pub outputs: Vec<Artifact>,
    /// What it writes on the way: checkpoints, a log.
    pub traces: Vec<PathBuf>,
    /// In tokens through a decoder, without gradient.
    pub work: f64,
    pub run: fn(&Config, &AtomicBool) -> Result<End>,
}

impl Stage {
    /// What decides the outcome.
    ///
    /// # Errors
    /// A file or bundle that is not there.
    pub fn inputs(&self) -> Result<Inputs> {
        let mut inputs = Inputs::new();
        for (section, value) in &self.settings {
            flatten(section, value, &mut inputs);
        }
        for (role, artifact) in &self.sources {
            inputs.insert(role.clone(), artifact.checksum()?);
        }
        Ok(inputs)
    }

    /// Everything that it writes.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        self.outputs.iter().map(Artifact::path).chain(self.traces.iter().map(PathBuf::as_path))
    }

    /// The log of its updates, if it has one.
    pub fn log(&self) -> Option<&Path> {
        self.traces.iter().map(PathBuf::as_path).find(|path| path.ends_with("log.jsonl"))
    }
}

/// The stages that a configuration asks for, in their order.
///
/// # Errors
/// Settings that cannot be written as JSON, of which none are known.
pub fn of(config: &Config) -> Result<Vec<Stage>> {
    let pipeline = config.pipeline.clone().unwrap_or_default();
    pipeline
        .stages
        .iter()
        .map(|name| match name {
            StageName::Tokenizer => tokenizer(config),
            StageName::Cmlm => cmlm(config),
            StageName::Dims => dims(config),
        })
        .collect()
}

fn tokenizer(config: &Config) -> Result<Stage> {
    let (vocab_size, on_bad_line) = (config.tokenizer.vocab_size, config.data.on_bad_line);
    Ok(Stage {
        name: StageName::Tokenizer,
        config: config.clone(),
        settings: [("tokenizer", json(&Vocabulary { vocab_size })?), ("data", json(&Lines { on_bad_line })?)]
            .into(),
        sources: training_files(config),
        outputs: vec![Artifact::File(config.tokenizer.path.clone())],
        traces: Vec::new(),
        work: 0.0,
        run: vocabulary::run,
    })
}

fn cmlm(config: &Config) -> Result<Stage> {
    let mut sources = text_files(config);
    sources.push(("tokenizer.path".into(), Artifact::File(config.tokenizer.path.clone())));
    Ok(Stage {
        name: StageName::Cmlm,
        settings: [
            ("data", data(config)?),
            ("model", json(&config.model)?),
            ("train", train(&config.train)?),
        ]
        .into(),
        sources,
        outputs: vec![Artifact::Bundle(config.output.join("bundle"))],
        traces: traces(&config.output),
        work: updates(&config.train, GRADIENT_PASS),
        run: cmlm::run,
        config: config.clone(),
    })
}

fn dims(config: &Config) -> Result<Stage> {
    let settings = config.dims.clone().unwrap_or_default();
    let output = settings.output(&config.output);
    let mut sources = text_files(config);
    sources.push(("dims.teacher".into(), Artifact::Bundle(settings.teacher(&config.output))));
    let mut own = json(&settings)?;
    without(&mut own, &["teacher", "output", "checkpoint_every"]);
    let mut passes = f64::from(settings.steps);
    if settings.unsupervised {
        passes += f64::from(settings.translation_steps);
    }
    let loop_settings = settings.train(&config.train);
    Ok(Stage {
        name: StageName::Dims,
        settings: [("data", data(config)?), ("train", train(&loop_settings)?), ("dims", own)].into(),
        sources,
        outputs: vec![Artifact::Bundle(output.join("bundle"))],
        traces: traces(&output),
        work: updates(&loop_settings, GRADIENT_PASS + passes),
        run: dims::run,
        config: config.clone(),
    })
}

#[derive(Serialize)]
struct Vocabulary {
    vocab_size: usize,
}

#[derive(Serialize)]
struct Lines {
    on_bad_line: crate::train::corpus::OnBadLine,
}

/// A pass and its gradient cost as much as three passes.
const GRADIENT_PASS: f64 = 3.0;

fn updates(train: &Train, passes: f64) -> f64 {
    train.updates as f64 * (train.accumulate * train.batch_tokens) as f64 * passes
}

/// What the loop of training leaves in its folder on the way.
fn traces(output: &Path) -> Vec<PathBuf> {
    ["checkpoints", "log.jsonl", "tensorboard"].map(|name| output.join(name)).to_vec()
}

fn training_files(config: &Config) -> Vec<(String, Artifact)> {
    let data = &config.data;
    let files = [("data.source", &data.source), ("data.target", &data.target)];
    let role = |(key, paths): (&str, &Vec<PathBuf>)| -> Vec<(String, Artifact)> {
        let named = paths.iter().enumerate();
        named.map(|(i, path)| (format!("{key}[{i}]"), Artifact::File(data.root.join(path)))).collect()
    };
    files.into_iter().flat_map(role).collect()
}

fn text_files(config: &Config) -> Vec<(String, Artifact)> {
    let (source, target) = config.data.valid_files();
    let valid = [("data.valid_source", source), ("data.valid_target", target)];
    let mut files = training_files(config);
    files.extend(valid.map(|(role, path)| (role.to_owned(), Artifact::File(path))));
    files
}

/// Where the files lie decides nothing, and their content is looked at by itself.
fn data(config: &Config) -> Result<Value> {
    let mut data = json(&config.data)?;
    without(&mut data, &["root", "source", "target", "valid_source", "valid_target"]);
    Ok(data)
}

fn train(train: &Train) -> Result<Value> {
    let mut train = json(train)?;
    without(&mut train, &WITHOUT_EFFECT);
    Ok(train)
}

fn json(settings: &impl Serialize) -> Result<Value> {
    serde_json::to_value(settings).map_err(|e| Error::Config(e.to_string()))
}

fn without(section: &mut Value, keys: &[&str]) {
    if let Value::Object(section) = section {
        section.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// `{"train": {"seed": 1}}` is `train.seed = 1`.
fn flatten(key: &str, value: &Value, inputs: &mut Inputs) {
    match value {
        Value::Object(section) => {
            for (name, value) in section {
                flatten(&format!("{key}.{name}"), value, inputs);
            }
        }
        Value::String(text) => drop(inputs.insert(key.to_owned(), text.clone())),
        other => drop(inputs.insert(key.to_owned(), other.to_string())),
    }
}
