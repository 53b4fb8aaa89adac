//! Layer normalisation of one row, and the reductions that row kernels share.

use crate::nn::ops::exp;

/// Gain and bias of a layer norm (Ba et al. 2016).
#[derive(Debug)]
pub struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    const EPS: f32 = 1e-5;

    /// Two vectors of one width.
    pub fn new(gain: Vec<f32>, bias: Vec<f32>) -> Self {
        assert_eq!(gain.len(), bias.len(), "gain and bias have one width");
        Self { gain, bias }
    }

    /// `out = (row - mean) / sqrt(var + eps) · gain + bias`
    pub fn apply(&self, row: &[f32], out: &mut [f32]) {
        pulp::Arch::new().dispatch(|| {
            let n = row.len() as f32;
            let mean = sum_by(row, |v| v) / n;
            let variance = sum_by(row, |v| (v - mean) * (v - mean)) / n;
            let scale = 1.0 / (variance + Self::EPS).sqrt();
            let affine = self.gain.iter().zip(&self.bias);
            for ((out, &v), (&g, &b)) in out.iter_mut().zip(row).zip(affine) {
                *out = (v - mean) * scale * g + b;
            }
        });
    }
}

const LANES: usize = 16;

/// Folds in sixteen lanes and these by halves: short chains of dependent operations, in an order
/// that is fixed by the length alone.
#[inline(always)]
fn fold(values: &[f32], start: f32, f: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, v);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

#[inline(always)]
pub(super) fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold(values, 0.0, |sum, v| sum + f(v), |a, b| a + b)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Largest value; NaN is passed over.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, larger, larger)
}

#[inline(always)]
pub(super) fn max_abs(values: &[f32]) -> f32 {
    fold(values, 0.0, |top, v| larger(top, v.abs()), larger)
}

/// `values = e^(values - top)`, and their sum.
#[inline(always)]
pub(super) fn exp_all(values: &mut [f32], top: f32) -> f32 {
    for v in values.iter_mut() {
        *v = exp(*v - top);
    }
    sum_by(values, |v| v)
}
