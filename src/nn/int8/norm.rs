//! Layer normalization and softmax of rows.

use pulp::{Simd, WithSimd};

use super::kernel::arch;
use super::lanes::{Adding, Fold, LANES, Max, SquaresFrom, Sum, fold};

/// Gain and bias of a layer norm (Ba et al. 2016).
#[derive(Debug)]
pub struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    const EPS: f32 = 1e-5;

    /// # Panics
    /// If the vectors differ in length.
    pub fn new(gain: Vec<f32>, bias: Vec<f32>) -> Self {
        assert_eq!(gain.len(), bias.len(), "gain and bias have one width");
        Self { gain, bias }
    }

    pub fn width(&self) -> usize {
        self.gain.len()
    }

    /// Normalizes every row of `x [count, width]` in place.
    pub fn apply(&self, x: &mut [f32]) {
        arch().dispatch(Apply { norm: self, x });
    }

    /// `out = (row - mean) / sqrt(var + eps) · gain + bias`
    #[inline(always)]
    pub(super) fn normalize<S: Simd>(&self, simd: S, row: &[f32], out: &mut [f32]) {
        let (mean, scale) = Self::moments(simd, row);
        let affine = self.gain.iter().zip(&self.bias);
        for ((out, &v), (&g, &b)) in out.iter_mut().zip(row).zip(affine) {
            *out = (v - mean) * scale * g + b;
        }
    }

    /// The mean and the reciprocal of the standard deviation.
    #[inline(always)]
    fn moments<S: Simd>(simd: S, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = fold(simd, Sum, row) / n;
        let variance = fold(simd, SquaresFrom(mean), row) / n;
        (mean, 1.0 / (variance + Self::EPS).sqrt())
    }
}

/// A call of [`Norm::apply`].
struct Apply<'a> {
    norm: &'a Norm,
    x: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { norm, x } = self;
        for row in x.chunks_exact_mut(norm.width()) {
            let (mean, scale) = Norm::moments(simd, row);
            for (v, (&g, &b)) in row.iter_mut().zip(norm.gain.iter().zip(&norm.bias)) {
                *v = (*v - mean) * scale * g + b;
            }
        }
    }
}

/// `values -= ln Σ e^values`
pub fn log_softmax(values: &mut [f32]) {
    arch().dispatch(LogSoftmax(values));
}

/// A call of [`log_softmax`].
struct LogSoftmax<'a>(&'a mut [f32]);

impl WithSimd for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let top = fold(simd, Max, self.0);
        let log_sum = top + fold(simd, ExpFrom(top), self.0).ln();
        self.0.iter_mut().for_each(|v| *v -= log_sum);
    }
}

/// Σ e^(x − top). No value may exceed `top`.
#[derive(Clone, Copy)]
pub(super) struct ExpFrom(pub(super) f32);

impl<S: Simd> Fold<S> for ExpFrom {
    type Join = Adding;

    #[inline(always)]
    fn value(self, simd: S, x: S::f32s) -> S::f32s {
        exp_below(simd, simd.sub_f32s(x, simd.splat_f32s(self.0)))
    }
}

/// Softmax of each lane over `x`.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, x: &mut [[f32; LANES]]) {
    for at in (0..LANES).step_by(S::F32_LANES) {
        let mut top = simd.splat_f32s(f32::NEG_INFINITY);
        for x in x.iter() {
            top = simd.max_f32s(S::as_simd_f32s(&x[at..]).0[0], top);
        }
        let mut sum = simd.splat_f32s(0.0);
        for x in x.iter_mut() {
            let x = &mut S::as_mut_simd_f32s(&mut x[at..]).0[0];
            *x = exp_below(simd, simd.sub_f32s(*x, top));
            sum = simd.add_f32s(sum, *x);
        }
        let inverse = simd.div_f32s(simd.splat_f32s(1.0), sum);
        for x in x.iter_mut() {
            let x = &mut S::as_mut_simd_f32s(&mut x[at..]).0[0];
            *x = simd.mul_f32s(*x, inverse);
        }
    }
}

/// `e^x` for `x <= 0`, with a relative error of at most 5e-7. Reduces by ln 2 in two parts, then evaluates a
/// polynomial of degree 5 (minimax of the relative error) in fused operations, half as many as
/// [`crate::nn::ops::exp`]. NaN stays NaN; values below −87 count as −87.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp_below<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    let all = |value| simd.splat_f32s(value);
    let x = simd.max_f32s(all(-87.0), x); // a maximum with NaN is the second operand
    let shifted = simd.mul_add_f32s(x, all(std::f32::consts::LOG2_E), all(ROUND));
    let n = simd.sub_f32s(shifted, all(ROUND));
    let r = simd.mul_add_f32s(n, all(2.121_944_4e-4), simd.mul_add_f32s(n, all(-0.693_359_375), x));
    let mut p = all(0.006_953_154_69);
    for factor in [0.041_875_690_2, 0.166_877_002, 0.499_993_742, 0.999_993_682, 1.0] {
        p = simd.mul_add_f32s(p, r, all(factor));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.add_u32s(exponent, simd.splat_u32s(0x3f80_0000));
    simd.mul_f32s(p, simd.transmute_f32s_u32s(power))
}
