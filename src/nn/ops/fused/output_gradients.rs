//! The gradients of an output layer and its loss with tiles.

use std::arch::x86_64::{
    _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use rayon::prelude::*;

use super::super::Classes;
use super::attention::exp;
use super::buffer::Buffer;
use super::output::{GROUP, GROUP_CLASSES, Layer, Order, PackedLayer, ROWS, scores};
use super::rows::{load, round};
use super::shared::Shared;
use super::tile::{Left, MatrixView, SIDE, STEP, multiply, pack_left, pack_right};
use crate::nn::gemm::Operand;
use crate::nn::gemm::amx::pack_b;
use crate::nn::gemm::lines::Line;
use crate::nn::tiles::Tiles;

/// Number of classes whose scores of [`ROWS`] rows are computed together.
const CLASSES: usize = 512;

/// The weights of a loss: one for each chosen class, and in addition `spread` for every allowed class of a row.
pub(in super::super) struct LossWeights<'a> {
    pub weights: &'a [f32],
    pub spread: f32,
    /// For each row, the logarithm of its softmax's sum.
    pub log_sums: &'a [f32],
}

impl Layer<'_> {
    /// Returns the gradient of `x`, and adds those of weight and bias: `dscore = softmax · Σ weights - weight`.
    pub fn gradients(
        &self,
        packed: &PackedLayer,
        classes: &Classes,
        loss: &LossWeights,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> Vec<f32> {
        let (width, rows) = (self.width(), self.rows());
        let (x, biases, order) = (self.rounded(), self.biases(), Order::of(classes));
        let x = x.as_bf16();
        let all = rows.next_multiple_of(SIDE);
        let mut dx = vec![0f32; all * width];
        let blocks: Vec<(usize, usize)> =
            (0..all).step_by(ROWS).map(|first| (first, ROWS.min(all - first))).collect();
        let mut x_right = Buffer::lines(all * width / SIDE);
        for &(first, count) in &blocks {
            let out = &mut x_right.as_lines_mut()[first * width / SIDE..];
            // SAFETY: as in `sums`.
            unsafe { pack_right(MatrixView::of(&x[first * width..], width), count, count / SIDE, width, out) }
        }
        let allowed = (self.bias.len() - self.forbidden) as f32;
        let total_weights: Vec<f32> = (0..rows)
            .map(|row| loss.weights[classes.range(row)].iter().sum::<f32>() + loss.spread * allowed)
            .collect();
        let mut cursors: Vec<usize> = (0..rows).map(|row| classes.range(row).start).collect();
        let mut dscores = Buffer::bf16(ROWS, CLASSES);
        let mut for_dx = Buffer::lines(CLASSES * width / SIDE);
        for (chunk, biases) in biases.chunks(CLASSES).enumerate() {
            let (begin, here) = (chunk * CLASSES, biases.len());
            let real = here.min(self.bias.len() - begin);
            let steps = here / SIDE;
            let operand = Operand {
                data: &self.weight[begin * width..][..real * width],
                columns: width,
                transposed: false,
            };
            let right = &packed.0.as_lines()[begin * width / SIDE..];
            for_dx.as_lines_mut().par_chunks_mut(steps * STEP).take(width / SIDE).enumerate().for_each(
                // SAFETY: as in `sums`.
                |(panel, out)| unsafe { pack_b(operand, width, real, panel * SIDE, out) },
            );
            let for_dx = for_dx.as_lines();
            for &(first, count) in &blocks {
                let places = Shared::new(dscores.as_bf16_mut());
                let own = &mut cursors[first..rows.min(first + count)];
                own.par_chunks_mut(SIDE).enumerate().for_each(|(tile, cursors)| {
                    // SAFETY: they are available where this module runs, and held for this block only.
                    let _tiles = unsafe { Tiles::configure() };
                    let row = first + tile * SIDE;
                    let view = ScoreGradients {
                        classes,
                        order: &order,
                        loss,
                        total_weights: &total_weights,
                        biases,
                        begin,
                        here,
                    };
                    let left = MatrixView::of(&x[row * width..], width);
                    let out = places.at(tile * SIDE * here);
                    // SAFETY: as in `sums`; tiles have separate rows.
                    unsafe { view.compute(left, width / SIDE, right, row, cursors, out) }
                });
                let dscores = MatrixView { at: places.at(0), stride: here };
                let to = Shared::new(&mut dx[first * width..][..count * width]);
                (0..count / SIDE).into_par_iter().for_each(|tile| {
                    // SAFETY: they are available where this module runs, and held for this block only.
                    let _tiles = unsafe { Tiles::configure() };
                    // SAFETY: as above.
                    unsafe {
                        let left = Left::rows(dscores.from(tile * SIDE, 0));
                        for (panel, right) in for_dx.chunks_exact(steps * STEP).take(width / SIDE).enumerate()
                        {
                            let c = to.at(tile * SIDE * width + panel * SIDE);
                            multiply(left, right, steps, c, width, true);
                        }
                    }
                });
                let x = &x_right.as_lines()[first * width / SIDE..][..count * width / SIDE];
                let dweight = &mut dweight[begin * width..][..real * width];
                let dbias = &mut dbias[begin..][..real];
                let pieces = dweight.par_chunks_mut(SIDE * width).zip(dbias.par_chunks_mut(SIDE));
                pieces.enumerate().for_each(|(panel, (dweight, dbias))| {
                    // SAFETY: they are available where this module runs, and held for this block only.
                    let _tiles = unsafe { Tiles::configure() };
                    // SAFETY: as above.
                    unsafe { class_gradients(dscores.from(0, panel * SIDE), count, x, width, dweight, dbias) }
                });
            }
        }
        dx.truncate(rows * width);
        dx
    }
}

/// A chunk of classes from `begin` on, `here` of them.
struct ScoreGradients<'a> {
    classes: &'a Classes,
    order: &'a Order,
    loss: &'a LossWeights<'a>,
    total_weights: &'a [f32],
    biases: &'a [f32],
    begin: usize,
    here: usize,
}

impl ScoreGradients<'_> {
    /// Writes the gradients of the scores of 32 rows as bf16, zeros for rows beyond `cursors`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn compute(
        &self,
        left: MatrixView,
        steps: usize,
        right: &[Line],
        first: usize,
        cursors: &mut [usize],
        out: *mut u16,
    ) {
        let mut c = Buffer::f32(SIDE * GROUP_CLASSES);
        let c = c.as_f32_mut();
        let spread = _mm512_set1_ps(self.loss.spread);
        let low = _mm512_set1_ps(f32::NEG_INFINITY);
        for (group, biases) in self.biases.chunks_exact(GROUP_CLASSES).enumerate() {
            let begin = self.begin + group * GROUP_CLASSES;
            unsafe { scores(left, steps, &right[group * GROUP * steps * STEP..], c) };
            for row in 0..SIDE {
                let scores = &mut c[row * GROUP_CLASSES..][..GROUP_CLASSES];
                match cursors.get_mut(row) {
                    None => scores.fill(0.0),
                    Some(cursor) => {
                        let row = first + row;
                        let (log_sum, total_weights) = (
                            _mm512_set1_ps(self.loss.log_sums[row]),
                            _mm512_set1_ps(self.total_weights[row]),
                        );
                        for i in (0..GROUP_CLASSES).step_by(16) {
                            // SAFETY: both have the asserted number of values.
                            unsafe {
                                let at = scores.as_mut_ptr().add(i);
                                let bias = _mm512_loadu_ps(biases.as_ptr().add(i));
                                let own = _mm512_sub_ps(_mm512_add_ps(_mm512_loadu_ps(at), bias), log_sum);
                                let own = exp(_mm512_max_ps(_mm512_set1_ps(-104.0), own));
                                let own = _mm512_fmsub_ps(own, total_weights, spread);
                                let allowed = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(bias, low);
                                _mm512_storeu_ps(at, _mm512_maskz_mov_ps(allowed, own));
                            }
                        }
                        let end = self.classes.range(row).end;
                        let limit = begin + GROUP_CLASSES;
                        self.order.advance(cursor, end, self.classes, limit, |place, class| {
                            scores[class - begin] -= self.loss.weights[place];
                        });
                    }
                }
                // SAFETY: `out` has memory for all classes of each row.
                let at = unsafe { out.add(row * self.here + group * GROUP_CLASSES) };
                round(scores, unsafe { std::slice::from_raw_parts_mut(at, GROUP_CLASSES) });
            }
        }
    }
}

/// Adds the gradients of weight and bias of up to 32 classes over `rows` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn class_gradients(
    dscores: MatrixView,
    rows: usize,
    x: &[Line],
    width: usize,
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let (steps, classes) = (rows / SIDE, dbias.len());
    let mut left = Buffer::lines(steps * STEP);
    let mut edge = Buffer::f32(SIDE * width);
    let (mut low, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    unsafe {
        pack_left(dscores, rows, steps, SIDE, left.as_lines_mut());
        let whole = classes == SIDE;
        let c = if whole { dweight.as_mut_ptr() } else { edge.as_f32_mut().as_mut_ptr() };
        for (panel, right) in x.chunks_exact(steps * STEP).take(width / SIDE).enumerate() {
            let left = Left::packed(left.as_lines());
            multiply(left, right, steps, c.add(panel * SIDE), width, whole);
        }
        if !whole {
            dweight.iter_mut().zip(edge.as_f32()).for_each(|(sum, part)| *sum += part);
        }
        for row in 0..rows {
            let at = dscores.from(row, 0).at;
            low = _mm512_add_ps(low, load(at));
            high = _mm512_add_ps(high, load(at.add(16)));
        }
        let mut sums = [0f32; SIDE];
        _mm512_storeu_ps(sums.as_mut_ptr(), low);
        _mm512_storeu_ps(sums.as_mut_ptr().add(16), high);
        dbias.iter_mut().zip(sums).for_each(|(sum, part)| *sum += part);
    }
}
