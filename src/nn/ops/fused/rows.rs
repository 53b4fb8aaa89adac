//! The operations between products: norms, activations, dropout and sums, row by row. Widths are multiples of 32.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_GT_OQ, _mm256_loadu_si256, _mm512_add_ps, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};
use std::mem::transmute;

use super::super::types::Mask;
use super::tile::SIDE;

/// The 32 x 32 sums of a tile product, in memory.
#[repr(C, align(64))]
pub(super) struct TileSums(pub [f32; SIDE * SIDE]);

impl TileSums {
    pub const ZERO: Self = Self([0.0; SIDE * SIDE]);
}

/// Writes 32 values, rounded to nearest, ties to even.
///
/// # Safety
/// `at` must have memory for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn store(at: *mut u16, low: __m512, high: __m512) {
    // SAFETY: both types are 512 bits of plain data.
    let values = unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    unsafe { _mm512_storeu_si512(at.cast(), values) }
}

/// Reads 16 bf16 values.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn load(at: *const u16) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(unsafe {
        _mm256_loadu_si256(at.cast())
    })))
}

/// Rounds values to bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn round(values: &[f32], out: &mut [u16]) {
    assert!(values.len() == out.len());
    for (values, out) in values.chunks_exact(SIDE).zip(out.chunks_exact_mut(SIDE)) {
        // SAFETY: each chunk has 32 values.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16)));
            store(out.as_mut_ptr(), low, high);
        }
    }
}

/// Sums `f`, which returns 16 values at a time, in two accumulators.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn sum_of(width: usize, f: impl Fn(usize) -> __m512) -> f32 {
    let (mut even, mut odd) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for i in (0..width).step_by(SIDE) {
        even = _mm512_add_ps(even, f(i));
        odd = _mm512_add_ps(odd, f(i + 16));
    }
    _mm512_reduce_add_ps(_mm512_add_ps(even, odd))
}

/// Mean and 1 / standard deviation.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    assert!(row.len().is_multiple_of(SIDE));
    let n = row.len() as f32;
    // SAFETY: reads 16 values of the row.
    let at = |i: usize| unsafe { _mm512_loadu_ps(row.as_ptr().add(i)) };
    let mean = sum_of(row.len(), at) / n;
    let variance = sum_of(row.len(), |i| {
        let off = _mm512_sub_ps(at(i), _mm512_set1_ps(mean));
        _mm512_mul_ps(off, off)
    });
    (mean, 1.0 / (variance / n + eps).sqrt())
}

/// A layer norm's weights.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub gain: &'a [f32],
    pub bias: &'a [f32],
    pub eps: f32,
}

impl Norm<'_> {
    /// `(x - mean) / deviation · gain + bias`, rounded to bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn forward(self, x: &[f32], scratch: &mut [f32], out: &mut [u16]) {
        let (mean, scale) = statistics(x, self.eps);
        for (((y, &x), &gain), &bias) in scratch.iter_mut().zip(x).zip(self.gain).zip(self.bias) {
            *y = (x - mean) * scale * gain + bias;
        }
        round(scratch, out);
    }

    /// With the normalized row `n` and `d = dn · gain`: `dx = dy + scale · (d - mean(d) - n · mean(d · n))`,
    /// `dgain += dn · n`, `dbias += dn`. `scratch` holds two rows.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn backward(
        self,
        x: &[f32],
        dn: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dgain: &mut [f32],
        dbias: &mut [f32],
        scratch: &mut [f32],
    ) {
        let width = x.len();
        assert!(scratch.len() == 2 * width);
        let (mean, scale) = statistics(x, self.eps);
        let (normal, delta) = scratch.split_at_mut(width);
        let (gain, dn, dy, dx) = (&self.gain[..width], &dn[..width], &dy[..width], &mut dx[..width]);
        let (dgain, dbias, delta) = (&mut dgain[..width], &mut dbias[..width], &mut delta[..width]);
        for i in 0..width {
            normal[i] = (x[i] - mean) * scale;
            delta[i] = dn[i] * gain[i];
            dgain[i] += dn[i] * normal[i];
            dbias[i] += dn[i];
        }
        // SAFETY: reads 16 values of each.
        let at = |values: &[f32], i: usize| unsafe { _mm512_loadu_ps(values.as_ptr().add(i)) };
        let mean_delta = sum_of(width, |i| at(delta, i)) / width as f32;
        let product = |i| _mm512_mul_ps(at(delta, i), at(normal, i));
        let mean_product = sum_of(width, product) / width as f32;
        for i in 0..width {
            dx[i] = dy[i] + scale * (delta[i] - mean_delta - normal[i] * mean_product);
        }
    }
}

/// The gradient of the input of dropout, `dy · mask`, as bf16. Adds it to `sums`. `first` is the index of the first
/// value in the batch.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn dropout_gradient(
    dy: &[f32],
    first: usize,
    mask: Mask,
    scratch: &mut [f32],
    sums: &mut [f32],
    out: &mut [u16],
) {
    if mask.threshold == 0 {
        scratch.copy_from_slice(dy);
    } else {
        for (i, (g, &dy)) in scratch.iter_mut().zip(dy).enumerate() {
            *g = dy * mask.at(first + i);
        }
    }
    sums.iter_mut().zip(&*scratch).for_each(|(sum, g)| *sum += g);
    round(scratch, out);
}

/// `max(c + bias, least)` as bf16 into 32 rows, `stride` values apart.
///
/// # Safety
/// `out` must have memory for the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn biased(c: &TileSums, bias: &[f32], least: f32, out: *mut u16, stride: usize) {
    assert!(bias.len() == SIDE);
    let least = _mm512_set1_ps(least);
    // SAFETY: a row of `c` and the bias have 32 values.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(bias.as_ptr()), _mm512_loadu_ps(bias.as_ptr().add(16)));
        for row in 0..SIDE {
            let at = c.0.as_ptr().add(row * SIDE);
            // A maximum with NaN is its second operand, so NaN stays NaN.
            let a = _mm512_max_ps(least, _mm512_add_ps(_mm512_loadu_ps(at), low));
            let b = _mm512_max_ps(least, _mm512_add_ps(_mm512_loadu_ps(at.add(16)), high));
            store(out.add(row * stride), a, b);
        }
    }
}

/// `c` as bf16 into 32 rows, `stride` values apart.
///
/// # Safety
/// `out` must have memory for the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn rounded(c: &TileSums, out: *mut u16, stride: usize, rows: usize) {
    for row in 0..rows {
        unsafe {
            let at = c.0.as_ptr().add(row * SIDE);
            store(out.add(row * stride), _mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16)));
        }
    }
}

/// `c` where the activation `h` is above 0, else 0, as bf16 into 32 rows; rows of both are `stride` values apart. Adds
/// their sum to `sums`.
///
/// # Safety
/// `h` and `out` must have 32 rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn masked(c: &TileSums, h: *const u16, out: *mut u16, stride: usize, sums: &mut [f32]) {
    assert!(sums.len() == SIDE);
    let zero = _mm512_setzero_ps();
    unsafe {
        let (mut low, mut high) = (_mm512_loadu_ps(sums.as_ptr()), _mm512_loadu_ps(sums.as_ptr().add(16)));
        for row in 0..SIDE {
            let (at, h) = (c.0.as_ptr().add(row * SIDE), h.add(row * stride));
            let active = |h| _mm512_cmp_ps_mask::<_CMP_GT_OQ>(load(h), zero);
            let a = _mm512_maskz_mov_ps(active(h), _mm512_loadu_ps(at));
            let b = _mm512_maskz_mov_ps(active(h.add(16)), _mm512_loadu_ps(at.add(16)));
            low = _mm512_add_ps(low, a);
            high = _mm512_add_ps(high, b);
            store(out.add(row * stride), a, b);
        }
        _mm512_storeu_ps(sums.as_mut_ptr(), low);
        _mm512_storeu_ps(sums.as_mut_ptr().add(16), high);
    }
}

/// `y = x + (c + bias) · mask` for one row, whose first value has index `first` in the batch.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn residual(c: &[f32], bias: &[f32], mask: Mask, first: usize, x: &[f32], y: &mut [f32]) {
    let width = c.len();
    let (bias, x, y) = (&bias[..width], &x[..width], &mut y[..width]);
    if mask.threshold == 0 {
        for i in 0..width {
            y[i] = x[i] + (c[i] + bias[i]);
        }
    } else {
        for i in 0..width {
            y[i] = x[i] + (c[i] + bias[i]) * mask.at(first + i);
        }
    }
}

/// Adds the rows of a bf16 matrix `[count, width]` to `sums`.
///
/// # Safety
/// `rows` must have `count` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn column_sums(rows: *const u16, count: usize, width: usize, sums: &mut [f32]) {
    assert!(sums.len() == width);
    for row in 0..count {
        for column in (0..width).step_by(16) {
            unsafe {
                let sum = sums.as_mut_ptr().add(column);
                _mm512_storeu_ps(
                    sum,
                    _mm512_add_ps(_mm512_loadu_ps(sum), load(rows.add(row * width + column))),
                );
            }
        }
    }
}
