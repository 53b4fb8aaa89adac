//! Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982): the momentum of a weight matrix is replaced by the nearest
//! semi-orthogonal matrix, so that an update is equally large in every direction. On the CPU.
//!
//! The scale 0.2 · √(longer side) gives an update the root mean square of one of AdamW (arXiv 2502.16982, section 2.2), so both take
//! the same learning rate and decay.

use candle_core::{Tensor, Var};

use super::Coefficients;
use crate::Result;
use crate::nn::gemm::{Precision, gemm};
use crate::train::update::memory;

/// Decay of the momentum.
const MOMENTUM: f32 = 0.95;
/// Root mean square of an update of AdamW.
const ROOT_MEAN_SQUARE: f32 = 0.2;
/// Coefficients of the quintic iteration, and how often it runs (Jordan et al. 2024). Singular values end between 0.7 and 1.2.
const QUINTIC: (f32, f32, f32) = (3.4445, -4.775, 2.0315);
const ITERATIONS: usize = 5;

/// How many matrices the tensor `name` holds, one below the other; 0 where Muon does not apply. It is for the matrices of the layers:
/// embeddings and the output layer are looked up by row.
pub(super) fn matrices(name: &str, dims: &[usize]) -> usize {
    match (name.contains(".layers."), dims) {
        (true, [_, _]) if name.ends_with("qkv.weight") => 3,
        (true, [_, _]) if name.ends_with("key_value.weight") => 2,
        (true, [_, _]) => 1,
        _ => 0,
    }
}

/// Updates `var`, which holds so many matrices, and its momentum with a contiguous f32 gradient of the same shape.
pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    momentum: &mut [f32],
    matrices: usize,
    c: Coefficients,
) -> Result<()> {
    let (all_rows, columns) = var.dims2()?;
    let rows = all_rows / matrices.max(1);
    let scale = ROOT_MEAN_SQUARE * (rows.max(columns) as f32).sqrt() * c.learning_rate;
    memory::read(gradient, |gradient| {
        memory::write(var, |values| {
            let parts = values.chunks_mut(rows * columns).zip(momentum.chunks_mut(rows * columns));
            for ((values, momentum), gradient) in parts.zip(gradient.chunks(rows * columns)) {
                let mut direction = vec![0.0; values.len()];
                for ((m, g), d) in momentum.iter_mut().zip(gradient).zip(&mut direction) {
                    let g = g * c.gradient;
                    *m = MOMENTUM * *m + g;
                    *d = g + MOMENTUM * *m;
                }
                for (value, d) in values.iter_mut().zip(orthogonal(direction, rows, columns)) {
                    *value = *value * c.keep - scale * d;
                }
            }
        })
    })?
}

/// The semi-orthogonal matrix near `matrix [rows, columns]`, by Newton and Schulz. Zeros stay zeros.
fn orthogonal(mut x: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    let norm = x.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32;
    if norm == 0.0 {
        return x;
    }
    x.iter_mut().for_each(|value| *value /= norm);
    let (a, b, c) = QUINTIC;
    // The Gram matrix of the shorter side.
    let tall = rows > columns;
    let side = rows.min(columns);
    let (mut gram, mut square, mut next) =
        (vec![0.0; side * side], vec![0.0; side * side], vec![0.0; x.len()]);
    for _ in 0..ITERATIONS {
        if tall {
            product((side, side, rows), (&x, true), (&x, false), &mut gram);
        } else {
            product((side, side, columns), (&x, false), (&x, true), &mut gram);
        }
        product((side, side, side), (&gram, false), (&gram, false), &mut square);
        for (gram, square) in gram.iter_mut().zip(&square) {
            *gram = b * *gram + c * square;
        }
        if tall {
            product((rows, columns, side), (&x, false), (&gram, false), &mut next);
        } else {
            product((rows, columns, side), (&gram, false), (&x, false), &mut next);
        }
        for (x, next) in x.iter_mut().zip(&next) {
            *x = a * *x + next;
        }
    }
    x
}

/// `c [m, n] = op(a) · op(b)`, where `true` means transposed. Singular values need no more than bf16.
fn product((m, n, k): (usize, usize, usize), a: (&[f32], bool), b: (&[f32], bool), c: &mut [f32]) {
    gemm(Precision::Bf16, m, n, k, a.0, a.1, b.0, b.1, c, false);
}

#[cfg(test)]
mod tests;
