//! The gradients of an output layer and the loss on it by tiles.

use std::arch::x86_64::{
    _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use rayon::prelude::*;

use super::super::Classes;
use super::attention::exp;
use super::buffer::Buffer;
use super::output::{GROUP, GROUP_CLASSES, Layer, Order, PackedLayer, ROWS, scores};
use super::pass::Shared;
use super::rows::{load, round};
use super::tile::{Left, Rows, SIDE, STEP, multiply, pack_left, pack_right};
use crate::nn::gemm::Operand;
use crate::nn::gemm::amx::{Tiles, pack_b};
use crate::nn::gemm::lines::Line;

/// Classes whose scores of [`ROWS`] rows are worked on together.
const CLASSES: usize = 512;

/// A loss by its slopes: of each chosen class its weight, and the same `spread` for each class of a row besides.
pub(in super::super) struct Slopes<'a> {
    pub weights: &'a [f32],
    pub spread: f32,
    /// The logarithm of each row's sum.
    pub log_sums: &'a [f32],
}

impl Layer<'_> {
    /// The gradient of `x`, and those of weight and bias added to what is there. `dscore = softmax · Σ weights - weight`.
    pub fn gradients(
        &self,
        packed: &PackedLayer,
        classes: &Classes,
        slopes: &Slopes,
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
            unsafe { pack_right(Rows::of(&x[first * width..], width), count, count / SIDE, width, out) }
        }
        let allowed = (self.bias.len() - self.forbidden) as f32;
        let mass: Vec<f32> = (0..rows)
            .map(|row| slopes.weights[classes.range(row)].iter().sum::<f32>() + slopes.spread * allowed)
            .collect();
        let mut cursors: Vec<usize> = (0..rows).map(|row| classes.range(row).start).collect();
        let mut dscores = Buffer::bf16(ROWS, CLASSES);
        let mut across = Buffer::lines(CLASSES * width / SIDE);
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
            across.as_lines_mut().par_chunks_mut(steps * STEP).take(width / SIDE).enumerate().for_each(
                // SAFETY: as in `sums`.
                |(panel, out)| unsafe { pack_b(operand, width, real, panel * SIDE, out) },
            );
            let across = across.as_lines();
            for &(first, count) in &blocks {
                let places = Shared::new(dscores.as_bf16_mut());
                let own = &mut cursors[first..rows.min(first + count)];
                own.par_chunks_mut(SIDE).enumerate().for_each(|(tile, cursors)| {
                    let _tiles = Tiles::configure();
                    let row = first + tile * SIDE;
                    let view = View { classes, order: &order, slopes, mass: &mass, biases, begin, here };
                    let left = Rows::of(&x[row * width..], width);
                    let out = places.at(tile * SIDE * here);
                    // SAFETY: as in `sums`; each tile has rows of its own.
                    unsafe { view.slopes(left, width / SIDE, right, row, cursors, out) }
                });
                let dscores = Rows { at: places.at(0), stride: here };
                let to = Shared::new(&mut dx[first * width..][..count * width]);
                (0..count / SIDE).into_par_iter().for_each(|tile| {
                    let _tiles = Tiles::configure();
                    // SAFETY: as above.
                    unsafe {
                        let left = Left::rows(dscores.from(tile * SIDE, 0));
                        for (panel, right) in across.chunks_exact(steps * STEP).take(width / SIDE).enumerate()
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
                    let _tiles = Tiles::configure();
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
struct View<'a> {
    classes: &'a Classes,
    order: &'a Order,
    slopes: &'a Slopes<'a>,
    mass: &'a [f32],
    biases: &'a [f32],
    begin: usize,
    here: usize,
}

impl View<'_> {
    /// The slopes of 32 rows as bf16, zeros where a row is none of `cursors`'.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn slopes(
        &self,
        left: Rows,
        steps: usize,
        right: &[Line],
        first: usize,
        cursors: &mut [usize],
        out: *mut u16,
    ) {
        let mut c = Buffer::f32(SIDE * GROUP_CLASSES);
        let c = c.as_f32_mut();
        let spread = _mm512_set1_ps(self.slopes.spread);
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
                        let (log_sum, mass) =
                            (_mm512_set1_ps(self.slopes.log_sums[row]), _mm512_set1_ps(self.mass[row]));
                        for i in (0..GROUP_CLASSES).step_by(16) {
                            // SAFETY: both have so many values.
                            unsafe {
                                let at = scores.as_mut_ptr().add(i);
                                let bias = _mm512_loadu_ps(biases.as_ptr().add(i));
                                let own = _mm512_sub_ps(_mm512_add_ps(_mm512_loadu_ps(at), bias), log_sum);
                                let own = exp(_mm512_max_ps(_mm512_set1_ps(-104.0), own));
                                let own = _mm512_fmsub_ps(own, mass, spread);
                                let allowed = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(bias, low);
                                _mm512_storeu_ps(at, _mm512_maskz_mov_ps(allowed, own));
                            }
                        }
                        let end = self.classes.range(row).end;
                        let limit = begin + GROUP_CLASSES;
                        self.order.advance(cursor, end, self.classes, limit, |place, class| {
                            scores[class - begin] -= self.slopes.weights[place];
                        });
                    }
                }
                // SAFETY: each row has room for all classes.
                let at = unsafe { out.add(row * self.here + group * GROUP_CLASSES) };
                round(scores, unsafe { std::slice::from_raw_parts_mut(at, GROUP_CLASSES) });
            }
        }
    }
}

/// The gradients of up to 32 classes from so many rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn class_gradients(
    dscores: Rows,
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
