//! Reads a fairseq checkpoint: the arguments of its run, and its tensors by name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::{Object, PthTensors, Stack, TensorInfo};
use candle_core::{DType, Tensor};

use super::pickle;
use crate::{Error, Result};

/// The key of the state dict in a checkpoint.
const MODEL: &str = "model";

pub struct FairseqCheckpoint {
    pub arguments: Arguments,
    /// f32 on the CPU.
    pub tensors: HashMap<String, Tensor>,
}

/// The command line arguments of the run, defaults included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(BTreeMap<String, Object>);

impl FairseqCheckpoint {
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Bundle`] for one that is not a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let pickle = checked_pickle(path)?;
        // candle's reader panics on some malformed files.
        let read = catch_unwind(AssertUnwindSafe(|| (arguments(path, &pickle), tensors(path))));
        match read {
            Ok((arguments, tensors)) => Ok(Self { arguments: arguments?, tensors: tensors? }),
            Err(_) => {
                Err(Error::bundle(path, "is not a checkpoint that can be read: its pickle is malformed"))
            }
        }
    }
}

type Archive = zip::ZipArchive<BufReader<File>>;

fn archive(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(Error::io(path))?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| {
        let hint = "load an older checkpoint in PyTorch and save it again";
        Error::bundle(path, format!("is not a checkpoint of PyTorch 1.6 or later ({e}); {hint}"))
    })
}

/// The content of `data.pkl`, checked to have valid lengths and a bounded size in memory.
fn checked_pickle(path: &Path) -> Result<Vec<u8>> {
    let wrong = |reason: String| Error::bundle(path, reason);
    let mut zip = archive(path)?;
    let mut found = None;
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).map_err(|e| wrong(e.to_string()))?;
        // The same condition as in candle, which reads all matching files.
        if !file.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            continue;
        }
        let mut bytes = Vec::new();
        let read = file.by_ref().take(pickle::MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| wrong(e.to_string()))?;
        pickle::check(&bytes).map_err(wrong)?;
        found = Some(bytes);
    }
    found.ok_or_else(|| wrong("has no data.pkl".into()))
}

fn tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let wrong = |e: candle_core::Error| Error::bundle(path, e.to_string());
    let file = PthTensors::new(path, Some(MODEL)).map_err(wrong)?;
    let mut tensors = HashMap::new();
    // Several tensors may share one storage, and f16 doubles in size.
    let mut bytes_left = 4 * path.metadata().map_err(Error::io(path))?.len();
    for (name, info) in file.tensor_infos() {
        let wrong = |reason: String| Error::bundle(path, format!("tensor {name:?}: {reason}"));
        bytes_left = reserve_bytes(path, info, bytes_left).map_err(wrong)?;
        let read = || file.get(name)?.map(|t| t.to_dtype(DType::F32)?.contiguous()).transpose();
        if let Some(tensor) = read().map_err(|e| wrong(e.to_string()))? {
            tensors.insert(name.clone(), tensor);
        }
    }
    if tensors.is_empty() {
        return Err(Error::bundle(path, format!("has no tensors under the key {MODEL:?}")));
    }
    Ok(tensors)
}

/// What is left of `bytes_left` after a tensor, which must lie within its storage.
fn reserve_bytes(path: &Path, info: &TensorInfo, bytes_left: u64) -> Result<u64, String> {
    let count = |count: u64, &dim: &usize| count.checked_mul(dim as u64);
    let count = info.layout.dims().iter().try_fold(1, count);
    let bytes = count.and_then(|count| count.checked_mul(info.dtype.size_in_bytes() as u64));
    let mut zip = archive(path).map_err(|e| e.to_string())?;
    let stored = zip.by_name(&info.path).map_err(|e| e.to_string())?.size();
    let end = bytes.and_then(|bytes| bytes.checked_add(info.layout.start_offset() as u64));
    match (bytes, end) {
        (Some(bytes), Some(end)) if end <= stored => {
            bytes_left.checked_sub(bytes).ok_or_else(|| "the tensors are larger than their file".into())
        }
        _ => Err(format!("has the shape {:?}, but its storage has {stored} bytes", info.layout.dims())),
    }
}

/// `args`, an `argparse.Namespace`, or, in newer versions, the entry `model` of the dict `cfg`.
fn arguments(path: &Path, pickle: &[u8]) -> Result<Arguments> {
    let wrong = |reason: String| Error::bundle(path, reason);
    let mut stack = Stack::empty();
    stack.read_loop(&mut &*pickle).map_err(|e| wrong(e.to_string()))?;
    let root = stack.finalize().map_err(|e| wrong(e.to_string()))?;
    let found = entry(&root, "args")
        .filter(|args| **args != Object::None)
        .or_else(|| entry(&root, "cfg").and_then(|cfg| entry(cfg, "model")));
    let fields = found.and_then(fields).ok_or_else(|| {
        wrong(
            "has neither args nor cfg.model, which describe the network: is it a fairseq checkpoint?".into(),
        )
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

    /// Whether a flag is set. A flag that the run's version does not have is not set.
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
