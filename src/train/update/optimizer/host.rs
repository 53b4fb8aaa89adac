//! The update on the CPU: one pass over memory, in place, in chunks of a fixed size that threads share.

use candle_core::{Tensor, Var};
use rayon::prelude::*;

use super::Coefficients;
use crate::Result;
use crate::train::update::memory;

/// Number of elements in a chunk. It is fixed so that sums are the same on every machine.
const CHUNK: usize = 1 << 14;
const LANES: usize = 16;

/// Σ g²: each chunk in f32 lanes, the sum of chunks in f64.
pub(super) fn sum_of_squares(gradient: &Tensor) -> Result<f64> {
    memory::read(gradient, |values| {
        let chunks: Vec<f64> = values.par_chunks(CHUNK).map(chunk_of_squares).collect();
        chunks.iter().sum()
    })
}

fn chunk_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0f32; LANES];
    let whole = values.chunks_exact(LANES);
    let rest: f32 = whole.remainder().iter().map(|x| x * x).sum();
    for group in whole {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane += x * x;
        }
    }
    lanes.iter().map(|&x| f64::from(x)).sum::<f64>() + f64::from(rest)
}

/// Updates `var` and its moments with a contiguous f32 gradient of the same shape.
pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    first: &mut [f32],
    second: &mut [f32],
    c: Coefficients,
) -> Result<()> {
    memory::read(gradient, |gradient| {
        memory::write(var, |values| {
            values
                .par_chunks_mut(CHUNK)
                .zip(first.par_chunks_mut(CHUNK))
                .zip(second.par_chunks_mut(CHUNK))
                .zip(gradient.par_chunks(CHUNK))
                .for_each(|(((p, m), v), g)| update_chunk(p, m, v, g, c));
        })
    })?
}

fn update_chunk(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], c: Coefficients) {
    let (fresh1, fresh2) = (1.0 - c.beta1, 1.0 - c.beta2);
    for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
        let g = g * c.gradient;
        *m = c.beta1 * *m + fresh1 * g;
        *v = c.beta2 * *v + fresh2 * (g * g);
        let step = *m / (v.sqrt() * c.second_scale + c.eps) * c.rate;
        *p = *p * c.keep - step;
    }
}
