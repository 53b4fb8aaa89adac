//! The table of stages: for each its inputs, outputs, cost and function. A new stage needs an entry here and in
//! [`StageName`](crate::train::config::StageName).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::Value;

use super::artifact::Artifact;
use super::inputs::Inputs;
use crate::model::Bundle;
use crate::train::config::{Config, Dims, StageName, Train, ValidationConfig, distilled_files};
use crate::train::stages::distill::{self, Shard};
use crate::train::stages::parallel::shape_of;
use crate::train::stages::plain_shape;
use crate::train::stages::{ar, dims, parallel};
use crate::train::update::initial::require_shape;
use crate::train::update::run::End;
use crate::{Error, Result};

/// Settings of `[train]` that do not affect weights, or whose content is checked separately; and the device and the
/// number of ranks, which affect only rounding, so that a run may continue with others.
const WITHOUT_EFFECT: [&str; 8] =
    ["init", "device", "ranks", "checkpoint_every", "keep_best", "keep_last", "log_every", "tensorboard"];

/// One stage of one run.
pub struct PipelineStage {
    pub name: StageName,
    /// The configuration of this stage.
    pub config: Config,
    /// The settings that determine the output, by section.
    settings: BTreeMap<&'static str, Value>,
    /// Input files and bundles, by role.
    pub sources: Vec<(String, Artifact)>,
    /// Checks a bundle among the sources; a stage has at most one.
    pub fits: fn(&Config, &Bundle) -> Result<()>,
    pub outputs: Vec<Artifact>,
    /// What it writes during the run: checkpoints and a log.
    pub traces: Vec<PathBuf>,
    /// Estimated cost, in tokens of decoder passes without gradient.
    pub work: f64,
    pub run: fn(&Config, &AtomicBool) -> Result<End>,
}

impl PipelineStage {
    /// Everything that determines the output.
    ///
    /// # Errors
    /// A missing file or bundle.
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

    /// Everything that the stage writes.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        self.outputs.iter().map(Artifact::path).chain(self.traces.iter().map(PathBuf::as_path))
    }

    /// The log of its updates, if it has one.
    pub fn log(&self) -> Option<&Path> {
        self.traces.iter().map(PathBuf::as_path).find(|path| path.ends_with("log.jsonl"))
    }
}

/// The stages of a configuration, in order.
///
/// # Errors
/// Settings that cannot be converted to JSON, which is not expected.
pub fn of(config: &Config) -> Result<Vec<PipelineStage>> {
    let pipeline = config.pipeline.clone().unwrap_or_default();
    let mut after_distill = config.clone();
    if pipeline.stages.contains(&StageName::Distill) {
        let settings = config.distill.clone().unwrap_or_default();
        after_distill.data.distilled = Some(settings.output(&config.output));
    }
    pipeline
        .stages
        .iter()
        .map(|name| match name {
            StageName::Tokenizer => tokenizer(config),
            StageName::Ar => ar(config),
            StageName::Distill => distill(config),
            StageName::Parallel => parallel(&after_distill),
            StageName::Dims => dims(&after_distill),
        })
        .collect()
}

fn tokenizer(config: &Config) -> Result<PipelineStage> {
    let (vocab_size, on_bad_line) = (config.tokenizer.vocab_size, config.data.on_bad_line);
    Ok(PipelineStage {
        name: StageName::Tokenizer,
        config: config.clone(),
        settings: [("tokenizer", json(&Vocabulary { vocab_size })?), ("data", json(&Lines { on_bad_line })?)]
            .into(),
        sources: original_files(config),
        fits: |_, _| Ok(()),
        outputs: vec![Artifact::File(config.tokenizer.path.clone())],
        traces: Vec::new(),
        work: 0.0,
        run: crate::train::stages::tokenizer::run,
    })
}

fn ar(config: &Config) -> Result<PipelineStage> {
    let settings = config.ar.clone().unwrap_or_default();
    let output = settings.output(&config.output);
    let mut sources = original_files(config);
    sources.extend(valid_files(config));
    sources.push(vocabulary(config));
    sources.extend(settings.init.clone().map(|path| ("ar.init".into(), Artifact::Bundle(path))));
    let loop_settings = settings.train(&config.train);
    Ok(PipelineStage {
        name: StageName::Ar,
        settings: [
            ("data", data(config)?),
            ("model", json(&config.model)?),
            ("train", train(&loop_settings)?),
        ]
        .into(),
        sources,
        // The vocabulary is checked later, because the tokenizer may not exist yet.
        fits: |config, init| require_shape(init, &plain_shape(config, init.config.shape.vocab)?),
        outputs: vec![Artifact::Bundle(output.join("bundle"))],
        traces: traces(&output),
        work: updates(&loop_settings, GRADIENT_PASS),
        run: ar::run,
        config: config.clone(),
    })
}

fn distill(config: &Config) -> Result<PipelineStage> {
    let settings = config.distill.clone().unwrap_or_default();
    let output = settings.output(&config.output);
    let mut sources = source_files(config);
    sources.push(match &settings.marian {
        Some(folder) => ("distill.marian".into(), Artifact::Marian(folder.clone())),
        None => ("distill.teacher".into(), Artifact::Bundle(settings.teacher(&config.output))),
    });
    let mut own = json(&settings)?;
    without(&mut own, &["teacher", "marian", "output", "batch_tokens"]);
    let text = distilled_files(&output, &config.data.source_lang, &config.data.target_lang);
    Ok(PipelineStage {
        name: StageName::Distill,
        settings: [("data", data(config)?), ("distill", own)].into(),
        sources,
        fits: |config, teacher| distill::require_teacher(teacher, &config.data),
        outputs: [text.0, text.1, output.join(distill::MANIFEST)].map(Artifact::File).to_vec(),
        traces: ["chunks", distill::PLAN].map(|name| output.join(name)).to_vec(),
        // The amount of text is not known yet; ten epochs of training are typical.
        work: updates(&config.train, settings.beam as f64 / 10.0),
        run: |config, stop| distill::run(config, Shard::WHOLE, stop),
        config: config.clone(),
    })
}

fn parallel(config: &Config) -> Result<PipelineStage> {
    let mut sources = text_files(config);
    sources.push(vocabulary(config));
    sources.extend(config.train.init.clone().map(|path| ("train.init".into(), Artifact::Bundle(path))));
    let mut settings = BTreeMap::from([
        ("data", data(config)?),
        ("model", json(&config.model)?),
        ("train", train(&config.train)?),
    ]);
    if let Some(cmlmc) = &config.cmlmc {
        settings.insert("cmlmc", json(cmlmc)?);
    }
    if let Some(imputer) = &config.imputer {
        settings.insert("imputer", json(imputer)?);
    }
    // A CMLMC also predicts and learns from a second pass; an Imputer aligns, and its canvas is twice as long.
    let twice = config.cmlmc.is_some() || config.imputer.is_some();
    let passes = if twice { 2.0 * GRADIENT_PASS } else { GRADIENT_PASS };
    Ok(PipelineStage {
        name: StageName::Parallel,
        settings,
        sources,
        fits: |config, init| require_shape(init, &shape_of(config, init.config.shape.vocab)?),
        outputs: vec![Artifact::Bundle(config.output.join("bundle"))],
        traces: traces(&config.output),
        work: updates(&config.train, passes),
        run: parallel::run,
        config: config.clone(),
    })
}

fn dims(config: &Config) -> Result<PipelineStage> {
    let settings = config.dims.clone().unwrap_or_default();
    let output = settings.output(&config.output);
    let mut sources = match settings.unsupervised {
        true => [source_files(config), valid_files(config)].concat(),
        false => text_files(config),
    };
    let teacher = settings.teacher(&config.output);
    sources.push(("dims.teacher".into(), Artifact::Bundle(teacher.clone())));
    if settings.lm {
        sources.push(("dims.lm".into(), Artifact::File(teacher.join(Bundle::LM))));
    }
    let mut own = json(&settings)?;
    without(&mut own, &["teacher", "output", "checkpoint_every"]);
    let mut passes = f64::from(settings.steps);
    if settings.unsupervised {
        passes += f64::from(settings.translation_steps);
    }
    let loop_settings = settings.train(&config.train);
    let mut traces = traces(&output);
    traces.push(output.join(Dims::ROUNDS));
    Ok(PipelineStage {
        name: StageName::Dims,
        settings: [("data", data(config)?), ("train", train(&loop_settings)?), ("dims", own)].into(),
        sources,
        fits: |config, teacher| dims::require_teacher(teacher, config),
        outputs: vec![Artifact::Bundle(output.join("bundle"))],
        traces,
        work: f64::from(settings.rounds) * updates(&loop_settings, GRADIENT_PASS + passes),
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
    on_bad_line: crate::train::config::OnBadLine,
}

/// The cost of a pass with its gradient, in passes.
const GRADIENT_PASS: f64 = 3.0;

fn updates(train: &Train, passes: f64) -> f64 {
    train.updates as f64 * (train.accumulate * train.batch_tokens) as f64 * passes
}

/// What the training loop writes during a run.
fn traces(output: &Path) -> Vec<PathBuf> {
    ["checkpoints", "log.jsonl", "tensorboard"].map(|name| output.join(name)).to_vec()
}

fn vocabulary(config: &Config) -> (String, Artifact) {
    ("tokenizer.path".into(), Artifact::File(config.tokenizer.path.clone()))
}

fn source_files(config: &Config) -> Vec<(String, Artifact)> {
    let data = &config.data;
    let corpora = data.corpora.iter().flat_map(|corpus| {
        numbered(&format!("data.corpora.{}.source", corpus.name), &data.root, &corpus.source)
    });
    numbered("data.source", &data.root, &data.source).into_iter().chain(corpora).collect()
}

/// The original training text.
fn original_files(config: &Config) -> Vec<(String, Artifact)> {
    let data = &config.data;
    let corpora = data.corpora.iter().flat_map(|corpus| {
        numbered(&format!("data.corpora.{}.target", corpus.name), &data.root, &corpus.target)
    });
    let targets = numbered("data.target", &data.root, &data.target).into_iter().chain(corpora);
    source_files(config).into_iter().chain(targets).collect()
}

fn numbered(key: &str, root: &Path, paths: &[PathBuf]) -> Vec<(String, Artifact)> {
    let named = paths.iter().enumerate();
    named.map(|(i, path)| (format!("{key}[{i}]"), Artifact::File(root.join(path)))).collect()
}

fn valid_files(config: &Config) -> Vec<(String, Artifact)> {
    let several = !config.data.validation.is_empty();
    let roles = |ValidationConfig { name, source, target }| {
        let role = |side| match several {
            true => format!("data.validation.{name}.{side}"),
            false => format!("data.valid_{side}"),
        };
        [(role("source"), Artifact::File(source)), (role("target"), Artifact::File(target))]
    };
    config.data.validation_sets().into_iter().flat_map(roles).collect()
}

/// The files that a parallel model reads: distilled text, if there is any, and validation text.
fn text_files(config: &Config) -> Vec<(String, Artifact)> {
    let data = &config.data;
    let mut files = match &data.distilled {
        None => original_files(config),
        Some(folder) => {
            let (source, target) = distilled_files(folder, &data.source_lang, &data.target_lang);
            let named = [("data.distilled, source", source), ("data.distilled, target", target)];
            named.map(|(role, path)| (role.to_owned(), Artifact::File(path))).to_vec()
        }
    };
    files.extend(valid_files(config));
    files
}

/// The data settings without the paths of files, whose content is checked separately.
fn data(config: &Config) -> Result<Value> {
    let mut data = json(&config.data)?;
    let files = ["source", "target"];
    without(&mut data, &["root", "distilled", "valid_source", "valid_target"]);
    without(&mut data, &files);
    for list in ["corpora", "validation"] {
        let entries = data.get_mut(list).and_then(Value::as_array_mut);
        entries.into_iter().flatten().for_each(|entry| without(entry, &files));
    }
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

/// `{"train": {"seed": 1}}` becomes `train.seed = 1`.
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

#[cfg(test)]
mod tests;
