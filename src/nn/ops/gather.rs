//! Pads sentences of different lengths to one tensor, and appends positions to rows.

use candle_core::{Result, Tensor, bail};

use super::cpu::with_values;
use super::kernel_path::{KernelPath, select_path};

/// Stacks `[len, width]` matrices as `[rows, longest, width]`, with zeros after the shorter ones.
pub fn pad_stack<'a>(rows: impl ExactSizeIterator<Item = &'a Tensor>) -> Result<Tensor> {
    let rows: Vec<&Tensor> = rows.collect();
    let Some(first) = rows.first() else { bail!("pad_stack: no rows") };
    let width = first.dim(1)?;
    let mut longest = 0;
    for row in &rows {
        let (len, own) = row.dims2()?;
        if own != width {
            bail!("pad_stack: widths {width} and {own} differ");
        }
        longest = longest.max(len);
    }
    if select_path(first) != KernelPath::Cpu {
        let padded: Vec<Tensor> =
            rows.iter().map(|r| r.pad_with_zeros(0, 0, longest - r.dim(0)?)).collect::<Result<_>>()?;
        return Tensor::stack(&padded, 0);
    }
    let mut values = Vec::with_capacity(rows.len() * longest * width);
    for (i, row) in rows.iter().enumerate() {
        with_values(row, |v| values.extend_from_slice(v))?;
        values.resize((i + 1) * longest * width, 0.0);
    }
    Tensor::from_vec(values, (rows.len(), longest, width), first.device())
}

/// Appends `next [rows, 1, width]` to each row of `past [rows, t, width]`: `[rows, t + 1, width]`.
pub fn append(past: &Tensor, next: &Tensor) -> Result<Tensor> {
    let (rows, len, width) = past.dims3()?;
    if next.dims() != [rows, 1, width] {
        bail!("append: {:?} does not fit {:?}", next.shape(), past.shape());
    }
    if select_path(past) != KernelPath::Cpu {
        return Tensor::cat(&[past, next], 1)?.contiguous();
    }
    // candle's cat along any dimension but the first leaves a transposed tensor.
    let mut values = Vec::with_capacity(rows * (len + 1) * width);
    with_values(past, |past| {
        with_values(next, |next| {
            for (past, next) in past.chunks_exact(len * width).zip(next.chunks_exact(width)) {
                values.extend_from_slice(past);
                values.extend_from_slice(next);
            }
        })
    })??;
    Tensor::from_vec(values, (rows, len + 1, width), past.device())
}
