//! Optional files of a bundle: safetensors whose tensors have one dimension.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// # Errors
/// What is wrong with the file.
pub fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, String> {
    SafeTensors::deserialize(bytes).map_err(|e| format!("is not a complete safetensors file ({e})"))
}

/// The bytes of a one-dimensional tensor.
///
/// # Errors
/// If it is missing, or has another type or shape.
pub fn row<'a>(file: &SafeTensors<'a>, name: &str, dtype: Dtype) -> Result<&'a [u8], String> {
    let tensor = file.tensor(name).map_err(|_| format!("has no tensor {name:?}"))?;
    match (tensor.dtype(), tensor.shape()) {
        (found, [_]) if found == dtype => Ok(tensor.data()),
        (found, shape) => {
            Err(format!("tensor {name:?} is {found:?} {shape:?}, expected one row of {dtype:?}"))
        }
    }
}

pub fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word)).collect()
}

pub fn bytes_of(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Serializes rows and `metadata`. Equal input gives equal bytes: the safetensors library writes metadata in
/// arbitrary order, so `metadata` becomes a single JSON entry, `made`.
///
/// # Errors
/// Those of the safetensors library.
pub fn serialize(
    rows: &[(&str, Dtype, Vec<u8>)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, String> {
    let mut views = Vec::with_capacity(rows.len());
    for (name, dtype, bytes) in rows {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        views.push((*name, TensorView::new(*dtype, shape, bytes).map_err(|e| e.to_string())?));
    }
    let made = serde_json::to_string(metadata).map_err(|e| e.to_string())?;
    let metadata = HashMap::from([("made".to_owned(), made)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
}
