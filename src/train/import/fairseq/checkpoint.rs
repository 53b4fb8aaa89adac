//! A fairseq checkpoint as a file: the arguments of its run, and its tensors by name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::{Object, PthTensors, Stack};
use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// The key of the state dict in a checkpoint.
const MODEL: &str = "model";

pub struct Checkpoint {
    pub arguments: Arguments,
    /// f32 on the CPU.
    pub tensors: HashMap<String, Tensor>,
}

/// What the run was told on its command line, defaults included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(BTreeMap<String, Object>);

impl Checkpoint {
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Bundle`] for one that is no checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        // candle's reader takes some malformed files for its own mistakes.
        let read = catch_unwind(AssertUnwindSafe(|| (arguments(path), tensors(path))));
        match read {
            Ok((arguments, tensors)) => Ok(Self { arguments: arguments?, tensors: tensors? }),
            Err(_) => Err(Error::bundle(path, "is no checkpoint that can be read: its pickle is malformed")),
        }
    }
}

fn tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let wrong = |e: candle_core::Error| Error::bundle(path, e.to_string());
    let file = PthTensors::new(path, Some(MODEL)).map_err(wrong)?;
    let mut tensors = HashMap::new();
    for name in file.tensor_infos().keys() {
        let read = || file.get(name)?.map(|t| t.to_dtype(DType::F32)?.contiguous()).transpose();
        if let Some(tensor) = read().map_err(|e| Error::bundle(path, format!("tensor {name:?}: {e}")))? {
            tensors.insert(name.clone(), tensor);
        }
    }
    if tensors.is_empty() {
        return Err(Error::bundle(path, format!("has no tensors under the key {MODEL:?}")));
    }
    Ok(tensors)
}

/// `args`, an `argparse.Namespace`, or in newer versions `cfg`, a dict with such a one as `model`.
fn arguments(path: &Path) -> Result<Arguments> {
    let wrong = |reason: String| Error::bundle(path, reason);
    let file = File::open(path).map_err(Error::io(path))?;
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| {
        wrong(format!("is no checkpoint of PyTorch 1.6 or later ({e}); load an older one and save it again"))
    })?;
    let pickle = (0..zip.len()).find(|&i| {
        zip.by_index_raw(i).is_ok_and(|file| file.name().is_ok_and(|name| name.ends_with("/data.pkl")))
    });
    let index = pickle.ok_or_else(|| wrong("has no data.pkl".into()))?;
    let mut reader = BufReader::new(zip.by_index(index).map_err(|e| wrong(e.to_string()))?);
    let mut stack = Stack::empty();
    stack.read_loop(&mut reader).map_err(|e| wrong(e.to_string()))?;
    let root = stack.finalize().map_err(|e| wrong(e.to_string()))?;
    let found = entry(&root, "args")
        .filter(|args| **args != Object::None)
        .or_else(|| entry(&root, "cfg").and_then(|cfg| entry(cfg, "model")));
    let fields = found.and_then(fields).ok_or_else(|| {
        wrong("has neither args nor cfg.model, which say what the network is: is it fairseq's?".into())
    })?;
    let named = |(key, value): &(Object, Object)| match key {
        Object::Unicode(key) => Some((key.clone(), value.clone())),
        _ => None,
    };
    Ok(Arguments(fields.iter().filter_map(named).collect()))
}

/// The entries of a dict, or the attributes of an object.
fn fields(object: &Object) -> Option<&[(Object, Object)]> {
    match object {
        Object::Dict(entries) => Some(entries),
        Object::Build { args, .. } => fields(args),
        _ => None,
    }
}

fn entry<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    let named = |(name, _): &&(Object, Object)| matches!(name, Object::Unicode(name) if name == key);
    fields(object)?.iter().find(named).map(|(_, value)| value)
}

impl Arguments {
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Object::Unicode(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a switch is on; one that the run's version did not know is off.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Object::Bool(true)))
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        match *self.0.get(key)? {
            Object::Int(number) => Some(number.into()),
            Object::Long(number) => Some(number),
            _ => None,
        }
    }
}
