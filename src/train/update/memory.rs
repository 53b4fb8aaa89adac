//! Access to the memory of f32 CPU tensors without copies, for the optimizer and the moving average.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor, Var, bail};

use crate::Result;

/// Reads a contiguous f32 tensor as a slice.
pub(crate) fn read<T>(tensor: &Tensor, reader: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(reader(&values[start..end])),
        _ => Err(candle_core::Error::Msg("expected a contiguous f32 tensor on the CPU".into()).into()),
    }
}

/// Changes an f32 variable in place. The variable is locked meanwhile: `writer` must only use the slice.
pub(crate) fn write(var: &Var, writer: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(var.inplace_op1(&Write(RefCell::new(Some(writer))))?)
}

/// candle gives access to the memory of a variable only to an operation, and calls it by shared reference. So the
/// writer is in a cell.
struct Write<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("expected a contiguous f32 variable");
        };
        if let Some(writer) = self.0.take() {
            writer(&mut values[start..end]);
        }
        Ok(())
    }
}
