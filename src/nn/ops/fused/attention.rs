//! Attention of one head over one sentence with tiles: softmax(Q · Kᵀ / √head) · V (Vaswani et al. 2017) and its
//! gradients. The backward pass recomputes the weights from the logarithms of the softmax's sums. Weights are rounded
//! to bf16 before they are multiplied.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_mask_mov_ps,
    _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

use super::super::types::AttentionMask;
use super::buffer::Buffer;
use super::rows::{TileSums, round, rounded, store};
use super::tile::{Left, MatrixView, SIDE, STEP, multiply, pack_left, pack_right, pack_right_transposed};

/// Properties shared by all heads of an attention.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub count: usize,
    /// Width of a head, a multiple of 32.
    pub width: usize,
    pub mask: AttentionMask,
}

/// Queries, keys and values of one head and sentence.
#[derive(Clone, Copy)]
pub(super) struct Views {
    pub query: MatrixView,
    pub key: MatrixView,
    pub value: MatrixView,
    pub queries: usize,
    pub keys: usize,
}

/// The addresses of the gradients of [`Views`].
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub query: *mut u16,
    pub query_stride: usize,
    pub key: *mut u16,
    pub value: *mut u16,
    pub source_stride: usize,
}

/// Scratch memory for sentences of up to a number of keys.
pub(super) struct Scratch {
    keys: Buffer,
    values: Buffer,
    keys_plain: Buffer,
    scores: Buffer,
    grads: Buffer,
    weights: Buffer,
    score_grads: Buffer,
    left: Buffer,
    right: Buffer,
    dkeys: Buffer,
    dvalues: Buffer,
}

impl Scratch {
    pub fn new(keys: usize, heads: Heads) -> Self {
        let wide = keys.next_multiple_of(SIDE);
        let packed = || Buffer::lines(wide * heads.width / SIDE);
        let tile = || Buffer::bf16(0, wide);
        let (scores, grads) = (Buffer::f32(SIDE * wide), Buffer::f32(SIDE * wide));
        let sums = || Buffer::f32(wide * heads.width);
        Self {
            keys: packed(),
            values: packed(),
            keys_plain: packed(),
            scores,
            grads,
            weights: tile(),
            score_grads: tile(),
            left: Buffer::lines(wide),
            right: Buffer::lines(heads.width),
            dkeys: sums(),
            dvalues: sums(),
        }
    }
}

/// `e^x` for values of at most about 0; see `cpu::exp`.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(clippy::excessive_precision)]
pub(super) fn exp(x: __m512) -> __m512 {
    let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_375), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.987_569_15e-4);
    for factor in [1.398_199_95e-3, 8.333_451_91e-3, 4.166_579_57e-2, 1.666_666_55e-1, 5.000_000_12e-1] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(factor));
    }
    let value = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0));
    _mm512_scalef_ps(value, n)
}

/// The mask of sixteen lanes from `first` that are below `count`.
#[inline]
fn lanes(first: usize, count: usize) -> u16 {
    match count.saturating_sub(first) {
        0 => 0,
        left if left >= 16 => u16::MAX,
        left => (1 << left) - 1,
    }
}

impl Heads {
    fn scale(self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    fn seen(self, query: usize, keys: usize) -> usize {
        self.mask.of(query, keys)
    }

    /// Writes the results, `stride` apart, and for each query the logarithm of its softmax's sum.
    ///
    /// # Safety
    /// `views` and `out` must be valid, 31 rows beyond the queries must be readable, and tiles configured.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn forward(
        self,
        views: Views,
        out: *mut u16,
        stride: usize,
        log_sums: &mut [f32],
        s: &mut Scratch,
    ) {
        let Views { query, key, value, queries, keys } = views;
        let (panels, steps) = (keys.div_ceil(SIDE), self.width / SIDE);
        let wide = panels * SIDE;
        let (packed_keys, packed_values) = (s.keys.as_lines_mut(), s.values.as_lines_mut());
        unsafe {
            pack_right_transposed(key, keys, self.width, packed_keys);
            pack_right(value, keys, panels, self.width, packed_values);
        }
        let (scores, weights) = (s.scores.as_f32_mut(), s.weights.as_bf16_mut());
        let mut c = TileSums::ZERO;
        for first in (0..queries).step_by(SIDE) {
            let real = SIDE.min(queries - first);
            unsafe {
                let query = Left::rows(query.from(first, 0));
                for (panel, keys) in packed_keys.chunks_exact(steps * STEP).take(panels).enumerate() {
                    multiply(query, keys, steps, scores.as_mut_ptr().add(panel * SIDE), wide, false);
                }
            }
            for row in 0..real {
                let (scores, weights) =
                    (&mut scores[row * wide..][..wide], &mut weights[row * wide..][..wide]);
                log_sums[first + row] = softmax(scores, self.seen(first + row, keys), self.scale(), weights);
            }
            for (panel, values) in packed_values.chunks_exact(panels * STEP).take(steps).enumerate() {
                unsafe {
                    multiply(
                        Left::rows(MatrixView::of(weights, wide)),
                        values,
                        panels,
                        c.0.as_mut_ptr(),
                        SIDE,
                        false,
                    );
                    rounded(&c, out.add(first * stride + panel * SIDE), stride, real);
                }
            }
        }
    }

    /// Writes the gradients, given the gradient of the results and the logarithms that [`Self::forward`] wrote.
    ///
    /// # Safety
    /// As [`Self::forward`], for all matrices.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn backward(
        self,
        views: Views,
        log_sums: &[f32],
        grad: MatrixView,
        to: Gradients,
        s: &mut Scratch,
    ) {
        let Views { query, key, value, queries, keys } = views;
        let (panels, steps, width) = (keys.div_ceil(SIDE), self.width / SIDE, self.width);
        let wide = panels * SIDE;
        let (keys_transposed, values_transposed) = (s.keys.as_lines_mut(), s.values.as_lines_mut());
        let keys_plain = s.keys_plain.as_lines_mut();
        unsafe {
            pack_right_transposed(key, keys, width, keys_transposed);
            pack_right_transposed(value, keys, width, values_transposed);
            pack_right(key, keys, panels, width, keys_plain);
        }
        let (scores, grads) = (s.scores.as_f32_mut(), s.grads.as_f32_mut());
        let (weights, score_grads) = (s.weights.as_bf16_mut(), s.score_grads.as_bf16_mut());
        let (left, right) = (s.left.as_lines_mut(), s.right.as_lines_mut());
        let (dkeys, dvalues) = (s.dkeys.as_f32_mut(), s.dvalues.as_f32_mut());
        let mut c = TileSums::ZERO;
        for first in (0..queries).step_by(SIDE) {
            let real = SIDE.min(queries - first);
            unsafe {
                let (query, grad) = (Left::rows(query.from(first, 0)), Left::rows(grad.from(first, 0)));
                for panel in 0..panels {
                    let (at, column) = (panel * steps * STEP, panel * SIDE);
                    multiply(
                        query,
                        &keys_transposed[at..],
                        steps,
                        scores.as_mut_ptr().add(column),
                        wide,
                        false,
                    );
                    multiply(
                        grad,
                        &values_transposed[at..],
                        steps,
                        grads.as_mut_ptr().add(column),
                        wide,
                        false,
                    );
                }
            }
            for row in 0..real {
                let range = row * wide..(row + 1) * wide;
                softmax_gradient(
                    &mut scores[range.clone()],
                    &grads[range.clone()],
                    self.seen(first + row, keys),
                    self.scale(),
                    log_sums[first + row],
                    &mut weights[range.clone()],
                    &mut score_grads[range],
                );
            }
            for (panel, keys) in keys_plain.chunks_exact(panels * STEP).take(steps).enumerate() {
                let score_grads = Left::rows(MatrixView::of(score_grads, wide));
                unsafe {
                    multiply(score_grads, keys, panels, c.0.as_mut_ptr(), SIDE, false);
                    let to_query = to.query.add(first * to.query_stride + panel * SIDE);
                    rounded(&c, to_query, to.query_stride, real);
                }
            }
            for (weights, with, sums) in
                [(&*weights, grad, &mut *dvalues), (&*score_grads, query, &mut *dkeys)]
            {
                unsafe {
                    pack_left(MatrixView::of(weights, wide), real, 1, wide, left);
                    pack_right(with.from(first, 0), real, 1, width, right);
                    for (panel, left) in left.chunks_exact(STEP).take(panels).enumerate() {
                        for (column, right) in right.chunks_exact(STEP).take(steps).enumerate() {
                            let c = sums.as_mut_ptr().add(panel * SIDE * width + column * SIDE);
                            multiply(Left::packed(left), right, 1, c, width, first > 0);
                        }
                    }
                }
            }
        }
        for row in 0..keys {
            let own = row * width..(row + 1) * width;
            // SAFETY: there is memory for the gradient of each key and value.
            unsafe {
                let out =
                    |at: *mut u16| std::slice::from_raw_parts_mut(at.add(row * to.source_stride), width);
                round(&dkeys[own.clone()], out(to.key));
                round(&dvalues[own], out(to.value));
            }
        }
    }
}

/// Writes the softmax of `scale · scores` over the first `seen` as bf16, zeros for the others. Returns the logarithm of
/// its sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn softmax(scores: &mut [f32], seen: usize, scale: f32, out: &mut [u16]) -> f32 {
    assert!(scores.len() == out.len() && scores.len().is_multiple_of(SIDE) && seen <= scores.len());
    let low = _mm512_set1_ps(f32::NEG_INFINITY);
    let (mut top, scales) = (low, _mm512_set1_ps(scale));
    // SAFETY: accesses 16 or 32 values at a time of slices whose length is a multiple of 32.
    unsafe {
        for first in (0..seen).step_by(16) {
            let at = scores.as_mut_ptr().add(first);
            let own = _mm512_mul_ps(_mm512_loadu_ps(at), scales);
            let own = _mm512_mask_mov_ps(low, lanes(first, seen), own);
            top = _mm512_max_ps(top, own);
            _mm512_storeu_ps(at, own);
        }
        let top = _mm512_reduce_max_ps(top);
        let mut sum = _mm512_setzero_ps();
        for first in (0..seen).step_by(16) {
            let at = scores.as_mut_ptr().add(first);
            let own = exp(_mm512_sub_ps(_mm512_loadu_ps(at), _mm512_set1_ps(top)));
            let own = _mm512_maskz_mov_ps(lanes(first, seen), own);
            sum = _mm512_add_ps(sum, own);
            _mm512_storeu_ps(at, own);
        }
        let sum = _mm512_reduce_add_ps(sum);
        let factor = _mm512_set1_ps(1.0 / sum);
        for first in (0..scores.len()).step_by(SIDE) {
            let part = |first: usize| {
                let own = _mm512_mul_ps(_mm512_loadu_ps(scores.as_ptr().add(first)), factor);
                _mm512_maskz_mov_ps(lanes(first, seen), own)
            };
            store(out.as_mut_ptr().add(first), part(first), part(first + 16));
        }
        top + sum.ln()
    }
}

/// Writes the softmax P and, from the gradient D of P, `P ∘ (D - rowsum(P ∘ D)) · scale` as bf16, zeros beyond `seen`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn softmax_gradient(
    scores: &mut [f32],
    grads: &[f32],
    seen: usize,
    scale: f32,
    log_sum: f32,
    weights: &mut [u16],
    out: &mut [u16],
) {
    let wide = scores.len();
    assert!(grads.len() == wide && weights.len() == wide && out.len() == wide && wide.is_multiple_of(SIDE));
    let (scales, log_sum) = (_mm512_set1_ps(scale), _mm512_set1_ps(log_sum));
    let mut mean = _mm512_setzero_ps();
    // SAFETY: accesses 16 or 32 values at a time of slices whose length is a multiple of 32.
    unsafe {
        for first in (0..wide).step_by(16) {
            let at = scores.as_mut_ptr().add(first);
            let own = exp(_mm512_sub_ps(_mm512_mul_ps(_mm512_loadu_ps(at), scales), log_sum));
            let own = _mm512_maskz_mov_ps(lanes(first, seen), own);
            let grad = _mm512_maskz_mov_ps(lanes(first, seen), _mm512_loadu_ps(grads.as_ptr().add(first)));
            mean = _mm512_fmadd_ps(own, grad, mean);
            _mm512_storeu_ps(at, own);
        }
        let mean = _mm512_set1_ps(_mm512_reduce_add_ps(mean));
        for first in (0..wide).step_by(SIDE) {
            let part = |first: usize| {
                let own = _mm512_loadu_ps(scores.as_ptr().add(first));
                let grad = _mm512_sub_ps(_mm512_loadu_ps(grads.as_ptr().add(first)), mean);
                let grad = _mm512_mul_ps(_mm512_mul_ps(own, grad), scales);
                (own, _mm512_maskz_mov_ps(lanes(first, seen), grad))
            };
            let ((p, grad), (more, more_grad)) = (part(first), part(first + 16));
            store(weights.as_mut_ptr().add(first), p, more);
            store(out.as_mut_ptr().add(first), grad, more_grad);
        }
    }
}
