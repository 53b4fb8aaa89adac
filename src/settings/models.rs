//! The models to serve, each with its share of the threads.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::raw::{Raw, RawModel};
use crate::decode::Steps;
use crate::model::{DeviceChoice, DtypeChoice};
use crate::{Error, Result};

/// A model to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// Default: the name of the folder.
    pub name: Option<String>,
    /// Folder of the bundle, or the name of a built-in model; empty for all built-in models.
    pub folder: PathBuf,
    pub device: DeviceChoice,
    pub dtype: DtypeChoice,
    /// Default: that of the bundle.
    pub default_steps: Option<Steps>,
    /// Number of compute threads: its share of all.
    pub threads: NonZeroUsize,
}

/// The models of the list `models`, or the single `model`.
pub fn of(raw: &Raw, threads: NonZeroUsize) -> Result<Vec<ModelSettings>> {
    if raw.models.is_empty() {
        let (device, dtype) = (raw.device.parse()?, raw.dtype.parse()?);
        let folder = raw.model.clone();
        return Ok(vec![ModelSettings { name: None, folder, device, dtype, default_steps: None, threads }]);
    }
    let weight = |model: &RawModel| model.weight.unwrap_or(1) as usize;
    let all: usize = raw.models.iter().map(weight).sum();
    let one = |(index, model): (usize, &RawModel)| {
        let wrong = |what: &str| Error::Config(format!("models[{index}].{what}"));
        if model.folder.as_os_str().is_empty() {
            return Err(wrong(
                "folder must not be empty: give the folder of a bundle, or the name of a built-in model",
            ));
        }
        if !(1..=1000).contains(&weight(model)) {
            return Err(wrong("weight must be 1 to 1000"));
        }
        let default_steps = match model.default_steps {
            Some(steps) => Some(Steps::new(steps).ok_or_else(|| wrong("default_steps must be at least 1"))?),
            None => None,
        };
        // Rounded up: with one thread too few, a core would be idle.
        let share = (threads.get() * weight(model)).div_ceil(all);
        Ok(ModelSettings {
            name: model.name.clone(),
            folder: model.folder.clone(),
            device: model.device.as_ref().unwrap_or(&raw.device).parse()?,
            dtype: model.dtype.as_ref().unwrap_or(&raw.dtype).parse()?,
            default_steps,
            threads: NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN),
        })
    };
    raw.models.iter().enumerate().map(one).collect()
}
