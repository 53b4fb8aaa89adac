//! The records of stages: inputs, outputs, machine and time.
//!
//! `stages/NAME.begun.json` exists from before a stage writes anything until it is complete, `stages/NAME.json` after
//! that. Both are written atomically, so they are correct whenever the machine stops.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::artifact::Artifact;
use super::inputs::{Inputs, digest};
use super::stages::PipelineStage;
use crate::train::config::StageName;
use crate::train::observe::Machine;
use crate::{Error, Result, files};

/// A complete stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub stage: StageName,
    /// Digest of `inputs`.
    pub digest: String,
    pub inputs: Inputs,
    /// Checksums by path.
    pub outputs: BTreeMap<PathBuf, String>,
    /// Working time, over all runs.
    pub seconds: f64,
    pub machine: Machine,
    /// Version of tutti.
    pub version: String,
}

/// A stage that has started and is not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRecord {
    pub stage: StageName,
    pub digest: String,
    pub inputs: Inputs,
    /// Working time of earlier runs, as far as known.
    pub seconds: f64,
}

/// The state of a stage on disk.
#[derive(Debug, PartialEq)]
pub enum StageStatus {
    /// There are no outputs.
    Absent,
    /// Complete, from the same inputs.
    Complete(Record),
    /// Started from the same inputs, but not complete.
    InProgress { seconds: f64 },
    /// Complete from the same inputs, but this output was modified later.
    OutputModified { seconds: f64, output: PathBuf },
    /// Trained from the same inputs, but settings of its output have changed; the differences, as text.
    Recalibrated { seconds: f64, differences: Vec<String> },
    /// Made from other inputs; the differences, as text.
    Outdated(Vec<String>),
}

/// The records of one run.
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// The records of the run in this folder. Those with a stage's old name get the new one, so that a run that an
    /// older version began continues.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be renamed.
    pub fn open(output: &Path) -> Result<Self> {
        let records = Self { folder: output.join("stages") };
        for stage in StageName::ALL {
            let Some(old_name) = stage.old_name() else { continue };
            let old = |end: &str| records.folder.join(format!("{old_name}{end}"));
            let renamed =
                [(old(".begun.json"), records.start_record(stage)), (old(".json"), records.record(stage))];
            for (old, new) in renamed {
                if old.exists() && !new.exists() {
                    fs::rename(&old, new).map_err(Error::io(&old))?;
                }
            }
        }
        Ok(records)
    }

    /// The state of a stage: compares its records and outputs on disk with `inputs`.
    ///
    /// # Errors
    /// A record that cannot be read; outputs without a record.
    pub fn status(&self, stage: &PipelineStage, inputs: &Inputs) -> Result<StageStatus> {
        let started: Option<StartRecord> = read(&self.start_record(stage.name))?;
        let record: Option<Record> = read(&self.record(stage.name))?;
        let Some(known) = record.as_ref().map(|r| &r.inputs).or(started.as_ref().map(|b| &b.inputs)) else {
            return match stage.places().find(|path| path.exists()) {
                None => Ok(StageStatus::Absent),
                Some(path) => Err(unknown(stage.name, path)),
            };
        };
        let keys = differing(known, inputs);
        let differences: Vec<String> = keys.iter().map(|key| difference(key, known, inputs)).collect();
        let same_training = keys.iter().all(|key| OUTPUT_SETTINGS.contains(&key.as_str()));
        Ok(match (record, started) {
            _ if !same_training => StageStatus::Outdated(differences),
            (Some(Record { seconds, .. }), _) if !differences.is_empty() => {
                StageStatus::Recalibrated { seconds, differences }
            }
            (Some(record), _) => match modified_output(&record, stage) {
                None => StageStatus::Complete(record),
                Some(output) => StageStatus::OutputModified { seconds: record.seconds, output },
            },
            (None, started) => {
                StageStatus::InProgress { seconds: started.map_or(0.0, |started| started.seconds) }
            }
        })
    }

    /// Records that the stage starts. Call it before the stage writes anything.
    pub fn begin(&self, stage: StageName, inputs: &Inputs, seconds: f64) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let started = StartRecord { stage, digest: digest(inputs), inputs: inputs.clone(), seconds };
        write(&self.start_record(stage), &started)?;
        remove(&self.record(stage))
    }

    /// Records that the stage is complete.
    ///
    /// # Errors
    /// A missing output.
    pub fn complete(&self, stage: &PipelineStage, inputs: Inputs, seconds: f64) -> Result<Record> {
        let checksum = |output: &Artifact| Ok((output.path().to_path_buf(), output.checksum()?));
        let record = Record {
            stage: stage.name,
            digest: digest(&inputs),
            inputs,
            outputs: stage.outputs.iter().map(checksum).collect::<Result<_>>()?,
            seconds: (seconds * 10.0).round() / 10.0,
            machine: Machine::this(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write(&self.record(stage.name), &record)?;
        remove(&self.start_record(stage.name))?;
        Ok(record)
    }

    /// Removes the records of the stage.
    pub fn forget(&self, stage: StageName) -> Result<()> {
        remove(&self.record(stage))?;
        remove(&self.start_record(stage))
    }

    fn record(&self, stage: StageName) -> PathBuf {
        self.folder.join(format!("{stage}.json"))
    }

    fn start_record(&self, stage: StageName) -> PathBuf {
        self.folder.join(format!("{stage}.begun.json"))
    }
}

/// Inputs that affect only how a bundle is written, not the training.
const OUTPUT_SETTINGS: [&str; 2] = ["dims.output_scale", "imputer.blank_penalty"];

fn differing<'a>(known: &'a Inputs, inputs: &'a Inputs) -> Vec<&'a String> {
    let keys: std::collections::BTreeSet<&String> = known.keys().chain(inputs.keys()).collect();
    keys.into_iter().filter(|key| known.get(*key) != inputs.get(*key)).collect()
}

/// `key: 1 → 2`. Checksums are not shown.
fn difference(key: &str, known: &Inputs, inputs: &Inputs) -> String {
    let checksum = |value: &String| value.starts_with(Artifact::CHECKSUM);
    match (known.get(key), inputs.get(key)) {
        (Some(before), Some(_)) if checksum(before) => format!("{key} has changed"),
        (before, now) => {
            let text = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
            format!("{key}: {} → {}", text(before), text(now))
        }
    }
}

/// The first output that is missing from the record or differs from it.
fn modified_output(record: &Record, stage: &PipelineStage) -> Option<PathBuf> {
    let differs = |output: &&Artifact| match (record.outputs.get(output.path()), output.checksum()) {
        (Some(before), Ok(now)) => *before != now,
        _ => true,
    };
    stage.outputs.iter().find(differs).map(|output| output.path().to_path_buf())
}

fn unknown(stage: StageName, path: &Path) -> Error {
    let reason = format!(
        "exists, but no record says what it was made from; move it away to have stage {stage} make it, \
         or remove {stage} from pipeline.stages to use it as it is"
    );
    Error::bundle(path, reason)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::bundle(path, e.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|e| Error::bundle(path, e.to_string()))?;
    files::write(path, &json)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}
