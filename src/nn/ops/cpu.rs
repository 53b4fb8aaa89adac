//! Shared by the CPU kernels: views of storages, parallel rows, vectorized functions.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Number of values of one task: enough to be worth another thread.
const VALUES_PER_TASK: usize = 1 << 14;

/// The values of a contiguous f32 storage.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused op needs contiguous input") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `f` on the values of a tensor without copying them where it is contiguous on the CPU.
pub fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(values(cpu, layout)?)),
        _ => bail!("a CPU kernel needs a tensor on the CPU"),
    }
}

/// Calls `f(row index, row)` for every row of `out`, in parallel, with the widest vectors the CPU has.
pub fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (VALUES_PER_TASK / width.max(1)).max(1);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, values)| {
        pulp::Arch::new().dispatch(|| {
            for (i, row) in values.chunks_exact_mut(width).enumerate() {
                f(chunk * rows + i, row);
            }
        });
    });
}

/// `e^x` with an error of about two units in the last place, written so that compilers vectorize a loop over it
/// (Cephes' expf: range reduction by ln 2 in two parts, then a polynomial of degree 6). NaN stays NaN. Below -87 the
/// result is so small that a softmax treats it as 0.
#[inline(always)]
#[allow(clippy::excessive_precision)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * 0.693_359_375) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_15e-4;
    p = p * r + 1.398_199_95e-3;
    p = p * r + 8.333_451_91e-3;
    p = p * r + 4.166_579_57e-2;
    p = p * r + 1.666_666_55e-1;
    p = p * r + 5.000_000_12e-1;
    let value = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x.is_nan() { x } else { value * power }
}

/// Sum of `f(value)` in sixteen lanes, so that it is vectorized. The order depends only on the length.
#[inline(always)]
pub fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f(v);
    }
    lanes.iter().sum()
}

/// Inner product, in sixteen lanes.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_by_pairs(a, b, |x, y| x * y)
}

/// Sum of `f(x, y)` over the values of two slices of one length, in sixteen lanes.
#[inline(always)]
pub fn sum_by_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut left = a.chunks_exact(16);
    let mut right = b.chunks_exact(16);
    for (x, y) in (&mut left).zip(&mut right) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(left.remainder()).zip(right.remainder()) {
        *lane += f(x, y);
    }
    lanes.iter().sum()
}

/// Largest value, ignoring NaN.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = if v > *lane { v } else { *lane };
    }
    lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `out += a · x`
#[inline(always)]
pub fn axpy(out: &mut [f32], a: f32, x: &[f32]) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o += a * x;
    }
}

/// Whether a CPU tensor of f32 holds neither NaN nor infinity.
pub fn all_finite(tensor: &Tensor) -> Result<bool> {
    with_values(tensor, |values| values.iter().all(|v| v.is_finite()))
}

#[cfg(test)]
mod tests;
