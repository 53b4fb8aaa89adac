//! Checkpoints, from which a run continues exactly. Each is a folder.
//!
//! `update-00001234/` contains `model.safetensors` (f32), `optimizer.safetensors`, `state.json` and, with a moving
//! average, `ema.safetensors`. A folder with that name is always complete: it is written under another name, flushed
//! to disk and renamed. The last n and the best k by score are kept. The module knows tensors only by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var, safetensors};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::Tensors;
use crate::train::data::batches::Position;
use crate::{Error, Result};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "update-";

/// The state of a run apart from its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Number of updates done.
    pub update: u64,
    /// The next batch.
    pub position: Position,
    pub seed: u64,
    /// Number of updates that were dropped because their gradient was not finite.
    pub skipped: u64,
    /// Score by which the best checkpoints are kept; higher is better.
    pub score: Option<f64>,
    /// The best value of each score so far.
    pub best: BTreeMap<String, f64>,
    /// Number of validations since the BLEU of the first decoding (one step or greedy search) last rose.
    #[serde(default)]
    pub validations_without_gain: u64,
    /// The text of the run's configuration.
    pub config: String,
}

impl State {
    /// SHA-256 of the configuration, in hex: equal for equal runs.
    pub fn config_digest(&self) -> String {
        files::digest(self.config.as_bytes())
    }
}

/// The content of a checkpoint folder.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub model: Tensors,
    /// The moving average of the weights, if the run keeps one.
    pub ema: Option<Tensors>,
    /// The result of [`Optimizer::state`](crate::train::update::optimizer::Optimizer::state).
    pub optimizer: Tensors,
    pub state: State,
}

impl Checkpoint {
    /// Reads a checkpoint onto `device`.
    ///
    /// # Errors
    /// A missing, truncated or invalid file; the error names it.
    pub fn load(directory: &Path, device: &Device) -> Result<Self> {
        let ema = directory.join(EMA);
        Ok(Self {
            model: read_tensors(&directory.join(MODEL), device)?,
            ema: if ema.exists() { Some(read_tensors(&ema, device)?) } else { None },
            optimizer: read_tensors(&directory.join(OPTIMIZER), device)?,
            state: read_state(directory)?,
        })
    }
}

/// Sets each variable to the tensor of its name. `file`, for messages, is where the tensors came from.
///
/// # Errors
/// A tensor that is missing, unknown or of another shape. No variable has changed then.
pub fn restore(vars: &BTreeMap<String, Var>, tensors: &Tensors, file: &Path) -> Result<()> {
    let mut found = Vec::with_capacity(vars.len());
    for (name, var) in vars {
        let tensor = tensors.get(name).ok_or_else(|| Error::bundle(file, format!("no tensor {name}")))?;
        require_shape(file, name, tensor, var)?;
        found.push((var, tensor.to_dtype(var.dtype())?.to_device(var.device())?));
    }
    if let Some(name) = tensors.keys().filter(|name| !vars.contains_key(*name)).min() {
        return Err(Error::bundle(file, format!("tensor {name} belongs to no parameter of this network")));
    }
    for (var, tensor) in found {
        var.set(&tensor)?;
    }
    Ok(())
}

/// The checkpoints of a run, in a folder of its own.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    keep_last: usize,
    keep_best: usize,
}

impl Store {
    /// Opens or creates `directory`, and cleans up after an interrupted save. The last checkpoint is always kept.
    pub fn open(directory: &Path, keep_last: usize, keep_best: usize) -> Result<Self> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let store = Self { directory: directory.to_path_buf(), keep_last: keep_last.max(1), keep_best };
        files::recover_all(directory)?;
        Ok(store)
    }

    /// Saves a checkpoint under the name of its update, replacing one of that name. Then removes the checkpoints that
    /// are neither among the last nor among the best. Returns the folder.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let folder = self.directory.join(format!("{PREFIX}{:08}", checkpoint.state.update));
        files::replace_folder(&folder, |folder| write_files(folder, checkpoint))?;
        self.prune()?;
        Ok(folder)
    }

    /// Checks that the disk has space for all checkpoints that exist at the same time, of `bytes` each.
    ///
    /// # Errors
    /// [`Error::Bundle`] with the free and the needed space.
    pub fn require_space(&self, bytes: u64) -> Result<()> {
        // One more: a new one is written before an old one is removed.
        let max_count = (self.keep_last + self.keep_best + 1) as u64;
        let missing = max_count.saturating_sub(self.list()?.len() as u64).saturating_mul(bytes);
        match files::free_bytes(&self.directory) {
            Some(free) if free < missing => {
                Err(too_little_space(&self.directory, free, missing, max_count, bytes))
            }
            _ => Ok(()),
        }
    }

    /// All checkpoints, in the order of their updates.
    pub fn list(&self) -> Result<BTreeMap<u64, PathBuf>> {
        let update = |path: &Path| file_name(path).strip_prefix(PREFIX)?.parse().ok();
        Ok(self.entries()?.into_iter().filter_map(|path| Some((update(&path)?, path))).collect())
    }

    /// The checkpoint of the highest update; `None` for a run that has not saved yet.
    pub fn last(&self) -> Result<Option<PathBuf>> {
        Ok(self.list()?.pop_last().map(|(_, path)| path))
    }

    /// The checkpoints with the highest scores, best first; of equal scores the earlier one first.
    pub fn best(&self, count: usize) -> Result<Vec<PathBuf>> {
        let mut scored = Vec::new();
        for path in self.list()?.into_values() {
            if let Some(score) = read_state(&path)?.score {
                scored.push((score, path));
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable, so earlier updates stay in front
        Ok(scored.into_iter().take(count).map(|(_, path)| path).collect())
    }

    fn prune(&self) -> Result<()> {
        let best = self.best(self.keep_best)?;
        for path in self.list()?.into_values().rev().skip(self.keep_last) {
            if !best.contains(&path) {
                files::remove_folder(&path)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.directory).map_err(Error::io(&self.directory))?;
        entries.map(|entry| Ok(entry.map_err(Error::io(&self.directory))?.path())).collect()
    }
}

/// The mean of the weights of several checkpoints (folders or safetensors files), summed in f64, as f32 on the CPU.
///
/// # Errors
/// No path, or files that do not contain the same tensors in the same shapes.
pub fn average(paths: &[PathBuf]) -> Result<Tensors> {
    let file = |path: &PathBuf| if path.is_dir() { path.join(MODEL) } else { path.clone() };
    let Some((first, others)) = paths.split_first() else {
        return Err(Error::Config("no checkpoints to average".into()));
    };
    let mut sums = read_tensors(&file(first), &Device::Cpu)?;
    for tensor in sums.values_mut() {
        *tensor = tensor.to_dtype(candle_core::DType::F64)?;
    }
    for path in others.iter().map(file) {
        let tensors = read_tensors(&path, &Device::Cpu)?;
        if let Some(name) = tensors.keys().filter(|name| !sums.contains_key(*name)).min() {
            return Err(Error::bundle(&path, format!("tensor {name} is not in {}", first.display())));
        }
        for (name, sum) in &mut sums {
            let tensor =
                tensors.get(name).ok_or_else(|| Error::bundle(&path, format!("no tensor {name}")))?;
            require_shape(&path, name, tensor, sum)?;
            *sum = (&*sum + tensor.to_dtype(candle_core::DType::F64)?)?;
        }
    }
    let mean = |sum: Tensor| (sum / paths.len() as f64)?.to_dtype(candle_core::DType::F32);
    sums.into_iter().map(|(name, sum)| Ok((name, mean(sum)?))).collect()
}

fn too_little_space(directory: &Path, free: u64, missing: u64, max_count: u64, bytes: u64) -> Error {
    let size = indicatif::BinaryBytes;
    let reason = format!(
        "the disk has {} free, but up to {max_count} checkpoints of {} need {} more; free some space, or lower \
         train.keep_last or train.keep_best",
        size(free),
        size(bytes),
        size(missing)
    );
    Error::bundle(directory, reason)
}

fn write_files(directory: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let sets = [
        (MODEL, Some(&checkpoint.model)),
        (EMA, checkpoint.ema.as_ref()),
        (OPTIMIZER, Some(&checkpoint.optimizer)),
    ];
    for (name, tensors) in sets {
        if let Some(tensors) = tensors {
            let path = directory.join(name);
            safetensors::save(tensors, &path).map_err(|e| Error::bundle(&path, e.to_string()))?;
        }
    }
    let path = directory.join(STATE);
    let json =
        serde_json::to_vec_pretty(&checkpoint.state).map_err(|e| Error::bundle(&path, e.to_string()))?;
    fs::write(&path, json).map_err(Error::io(&path))
}

fn read_tensors(path: &Path, device: &Device) -> Result<Tensors> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    safetensors::load_buffer(&bytes, device)
        .map_err(|e| Error::bundle(path, format!("is not a complete safetensors file: {e}")))
}

fn read_state(directory: &Path) -> Result<State> {
    let path = directory.join(STATE);
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::bundle(&path, e.to_string()))
}

fn require_shape(file: &Path, name: &str, tensor: &Tensor, expected: &Tensor) -> Result<()> {
    if tensor.dims() == expected.dims() {
        return Ok(());
    }
    let (found, expected) = (tensor.dims(), expected.dims());
    Err(Error::bundle(file, format!("tensor {name} has shape {found:?}, expected {expected:?}")))
}

/// The file name; empty if it is not UTF-8, since all files of a run have ASCII names.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
