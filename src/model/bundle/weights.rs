//! `model.safetensors`: the tensors of a network.
//!
//! All are f16; f32 and bf16 are read too. With [`Stored::Q8`], a matrix `NAME` `[rows, columns]` of a layer is i8,
//! and `NAME.scale` `[rows]` in f32 holds the factor of each row. These are the values that a [`QuantizedNetwork`]
//! computes from the matrix, and it computes the same from the matrix that is read here ([`RowScale`]). So q8
//! inference with a bundle that tutti wrote does not change by a bit. Embeddings, positions and the length head stay f16, because it uses them
//! unrounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use crate::model::{QuantizedNetwork, Shape, Spec};
use crate::nn::int8::RowScale;
use crate::nn::ops::{all_finite, with_values};

/// Suffix of the factors of a matrix in 8 bits. No tensor of a network ends with it.
const SCALE: &str = ".scale";

/// Largest factor whose products with all values of an i8 are finite.
const MAX_FACTOR: f32 = f32::MAX / 128.0;

/// Number type of the layers' matrices in a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// f16, or f32 or bf16 in a bundle that another program wrote.
    #[default]
    F16,
    /// 8 bits with a scale for each row: half the size, and the same results in q8 inference.
    Q8,
}

impl Stored {
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }
}

/// Reads a file as f32 tensors on the CPU. Names and shapes are checked before anything is allocated.
///
/// # Errors
/// The tensor, and what was expected of it.
pub(super) fn read(bytes: &[u8], shape: &Shape) -> Result<(HashMap<String, Tensor>, Stored), String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("is not a complete safetensors file ({e}); was it truncated while copying?"))?;
    let (scales, tensors): (BTreeMap<&str, TensorView<'_>>, BTreeMap<&str, TensorView<'_>>) =
        file.iter().partition(|(name, _)| name.ends_with(SCALE));
    for name in scales.keys() {
        let matrix = name.strip_suffix(SCALE).unwrap_or_default();
        if tensors.get(matrix).is_none_or(|view| view.dtype() != Dtype::I8) {
            return Err(format!("tensor {name:?} is a scale, but {matrix:?} is not a matrix in 8 bits"));
        }
    }
    let shapes = tensors.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect();
    Spec::check(shape, &shapes)?;
    let mut read = HashMap::with_capacity(tensors.len());
    for (name, view) in &tensors {
        let tensor = match view.dtype() {
            Dtype::F16 => plain(name, view, DType::F16)?,
            Dtype::BF16 => plain(name, view, DType::BF16)?,
            Dtype::F32 => plain(name, view, DType::F32)?,
            Dtype::I8 => {
                let scale = format!("{name}{SCALE}");
                restored(name, view, &scale, scales.get(scale.as_str()))?
            }
            other => {
                let expected = "expected F16, BF16 or F32, or I8 for a matrix";
                return Err(format!("tensor {name:?} is of type {other:?}, {expected}"));
            }
        };
        read.insert(name.to_string(), tensor);
    }
    Ok((read, if scales.is_empty() { Stored::F16 } else { Stored::Q8 }))
}

/// A tensor of floating-point numbers.
fn plain(name: &str, view: &TensorView<'_>, dtype: DType) -> Result<Tensor, String> {
    let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(DType::F32))
        .map_err(in_tensor(name))?;
    require_finite(name, &tensor)?;
    Ok(tensor)
}

/// A matrix in 8 bits as f32. `scale` is the name of its factors.
fn restored(
    name: &str,
    matrix: &TensorView<'_>,
    scale: &str,
    factors: Option<&TensorView<'_>>,
) -> Result<Tensor, String> {
    let &[rows, columns] = matrix.shape() else {
        return Err(format!("tensor {name:?} is of type I8, but not a matrix; expected F16, BF16 or F32"));
    };
    let factors =
        factors.ok_or_else(|| format!("tensor {scale:?} is missing: the scale of {name:?}, which is I8"))?;
    if factors.dtype() != Dtype::F32 || factors.shape() != [rows] {
        let (dtype, shape) = (factors.dtype(), factors.shape());
        return Err(format!(
            "tensor {scale:?} is {dtype:?} of shape {shape:?}, expected F32 of shape [{rows}]"
        ));
    }
    let factors = factors.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let mut values: Vec<f32> = Vec::with_capacity(matrix.data().len());
    for (row, factor) in matrix.data().chunks_exact(columns.max(1)).zip(factors) {
        if !(0.0..=MAX_FACTOR).contains(&factor) {
            return Err(format!("tensor {scale:?} holds {factor}, expected values of 0 to {MAX_FACTOR:e}"));
        }
        values.extend(row.iter().map(|&rounded| RowScale::restore(rounded.cast_signed(), factor)));
    }
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).map_err(in_tensor(name))
}

fn in_tensor(name: &str) -> impl Fn(candle_core::Error) -> String {
    move |error| format!("tensor {name:?}: {error}")
}

fn require_finite(name: &str, tensor: &Tensor) -> Result<(), String> {
    if all_finite(tensor).map_err(in_tensor(name))? {
        return Ok(());
    }
    Err(format!("tensor {name:?} holds values that are not finite numbers"))
}

/// A tensor as it is stored.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Entry {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes.as_slice())
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The content of the file. Equal tensors give equal bytes.
///
/// # Errors
/// A tensor that cannot be converted. Whether f16 can hold all values is seen when the file is read.
pub(super) fn serialize(tensors: &HashMap<String, Tensor>, stored: Stored) -> Result<Vec<u8>, String> {
    let mut entries = BTreeMap::new();
    for (name, tensor) in tensors {
        let tensor = tensor.to_device(&Device::Cpu).map_err(in_tensor(name))?;
        if stored == Stored::Q8 && QuantizedNetwork::rounds(name, tensor.dims()) {
            let tensor = tensor.to_dtype(DType::F32).map_err(in_tensor(name))?;
            require_finite(name, &tensor)?;
            let [matrix, factors] = rounded(&tensor).map_err(in_tensor(name))?;
            entries.insert(name.clone(), matrix);
            entries.insert(format!("{name}{SCALE}"), factors);
        } else {
            entries.insert(name.clone(), half(&tensor).map_err(in_tensor(name))?);
        }
    }
    safetensors::serialize(entries, None).map_err(|e| e.to_string())
}

fn half(tensor: &Tensor) -> candle_core::Result<Entry> {
    let half = tensor.to_dtype(DType::F16)?.contiguous()?;
    Ok(Entry { dtype: Dtype::F16, shape: half.dims().to_vec(), bytes: View::data(&half).into_owned() })
}

/// The values of a matrix in 8 bits, and their factors.
fn rounded(matrix: &Tensor) -> candle_core::Result<[Entry; 2]> {
    let (rows, columns) = matrix.dims2()?;
    let mut values: Vec<u8> = Vec::with_capacity(rows * columns);
    let mut factors: Vec<u8> = Vec::with_capacity(rows * size_of::<f32>());
    with_values(matrix, |weights| {
        for row in weights.chunks_exact(columns.max(1)) {
            let scale = RowScale::of(row);
            values.extend(row.iter().map(|&weight| scale.round(weight).cast_unsigned()));
            factors.extend(scale.factor().to_le_bytes());
        }
    })?;
    Ok([
        Entry { dtype: Dtype::I8, shape: vec![rows, columns], bytes: values },
        Entry { dtype: Dtype::F32, shape: vec![rows], bytes: factors },
    ])
}

#[cfg(test)]
mod tests;
