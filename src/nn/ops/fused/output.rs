//! The output layer and its loss with tiles: [`super::super::output`] on CPUs with AMX. Scores are computed for few
//! rows and classes at a time, so that they stay in the cache.

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_mask_add_ps,
    _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use rayon::prelude::*;

use super::super::Classes;
use super::super::cpu::max;
use super::super::types::SoftmaxSums;
use super::attention::exp;
use super::buffer::Buffer;
use super::rows::round;
use super::tile::{Left, MatrixView, SIDE, STEP, multiply};
use crate::nn::gemm::Operand;
use crate::nn::gemm::amx::pack_b;
use crate::nn::gemm::lines::Line;
use crate::nn::tiles::Tiles;

/// Number of rows whose scores are computed together.
pub(super) const ROWS: usize = 512;
/// Number of panels of classes that a row is updated with at once.
pub(super) const GROUP: usize = 4;
pub(super) const GROUP_CLASSES: usize = GROUP * SIDE;
/// Less than any score, and far from the smallest f32, so that differences are finite.
const LOW: f32 = -1e30;

/// An output layer and its input: `x [rows, width]`, `weight [classes, width]`. Classes below `forbidden` are ignored.
pub(in super::super) struct Layer<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub forbidden: usize,
}

/// The weights of an output layer, packed for `x · Wᵀ`.
pub(in super::super) struct PackedLayer(pub(super) Buffer);

/// The sums of a row's softmax, lane by lane.
#[derive(Clone, Copy)]
struct RowSums {
    top: __m512,
    sum: __m512,
    total: __m512,
}

impl Layer<'_> {
    pub(super) fn width(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    pub(super) fn rows(&self) -> usize {
        self.x.len() / self.width()
    }

    /// The biases, with minus infinity for forbidden classes and for the padding of the last group.
    pub(super) fn biases(&self) -> Vec<f32> {
        let mut biases = self.bias.to_vec();
        biases[..self.forbidden].fill(f32::NEG_INFINITY);
        biases.resize(biases.len().next_multiple_of(GROUP_CLASSES), f32::NEG_INFINITY);
        biases
    }

    /// Packs the weights.
    pub fn packed(&self) -> PackedLayer {
        let (width, classes) = (self.width(), self.bias.len());
        let (panels, lines) = (classes.next_multiple_of(GROUP_CLASSES) / SIDE, width / SIDE * STEP);
        let mut packed = Buffer::lines(panels * lines);
        let operand = Operand { data: self.weight, columns: width, transposed: true };
        packed.as_lines_mut().par_chunks_mut(lines).take(panels).enumerate().for_each(|(panel, out)| {
            // SAFETY: the CPU has the features (see the module `fused`).
            unsafe { pack_b(operand, classes, width, panel * SIDE, out) }
        });
        PackedLayer(packed)
    }

    /// The rows as bf16, padded with zero rows to whole tiles.
    pub(super) fn rounded(&self) -> Buffer {
        let width = self.width();
        let mut rows = Buffer::bf16(self.rows().next_multiple_of(SIDE), width);
        let (own, rest) = rows.as_bf16_mut().split_at_mut(self.x.len());
        rest.fill(0);
        own.par_chunks_mut(64 * width).zip(self.x.par_chunks(64 * width)).for_each(|(out, x)| {
            // SAFETY: the CPU has the features (see the module `fused`).
            unsafe { round(x, out) }
        });
        rows
    }

    /// For each row, the sums of its softmax over the classes.
    pub fn sums(&self, packed: &PackedLayer, classes: &Classes) -> Vec<SoftmaxSums> {
        let order = Order::of(classes);
        let mut sums: Vec<SoftmaxSums> =
            (0..self.rows()).map(|row| SoftmaxSums::new(classes.of(row).len())).collect();
        self.for_blocks(packed, &mut sums, |first, sums, inputs| {
            let mut cursors: Vec<usize> =
                (0..sums.len()).map(|row| classes.range(first + row).start).collect();
            let chosen = |row: usize, begin: usize, scores: &[f32], _raised: bool| {
                let range = classes.range(first + row);
                let own: &mut [f32] = &mut sums[row].chosen;
                let limit = begin + GROUP_CLASSES;
                order.advance(&mut cursors[row], range.end, classes, limit, |place, class| {
                    own[place - range.start] = scores[class - begin];
                });
            };
            // SAFETY: the tiles are configured; the input has whole tiles.
            let states = unsafe { block_sums(inputs, chosen) };
            for (sums, state) in sums.iter_mut().zip(states) {
                // SAFETY: the CPU has the features (see the module `fused`).
                (sums.top, sums.sum, sums.total) = unsafe { state.of_lanes() };
                sums.log_sum = sums.top + sums.sum.ln();
            }
        });
        sums
    }

    /// For each row, the best class and its log-probability. Ties go to the lower class.
    pub fn best(&self, packed: &PackedLayer) -> Vec<(u32, f32)> {
        let mut best = vec![(self.forbidden as u32, f32::NEG_INFINITY); self.rows()];
        self.for_blocks(packed, &mut best, |_, best, inputs| {
            let higher = |row: usize, begin: usize, scores: &[f32], raised: bool| {
                if !raised {
                    return;
                }
                let top = max(scores);
                if top > best[row].1 {
                    let place = scores.iter().position(|&score| score == top).unwrap_or(0);
                    best[row] = ((begin + place) as u32, top);
                }
            };
            // SAFETY: as in `sums`.
            let states = unsafe { block_sums(inputs, higher) };
            for ((_, score), state) in best.iter_mut().zip(states) {
                // SAFETY: as in `sums`.
                let (top, sum, _) = unsafe { state.of_lanes() };
                *score -= top + sum.ln();
            }
        });
        best
    }

    /// Calls `work(first row, its results, its inputs)` for blocks of rows on several threads, with tiles configured.
    fn for_blocks<T: Send>(
        &self,
        packed: &PackedLayer,
        results: &mut [T],
        work: impl Fn(usize, &mut [T], BlockInputs) + Sync,
    ) {
        let (x, biases, width) = (self.rounded(), self.biases(), self.width());
        let x = x.as_bf16();
        results.par_chunks_mut(ROWS).enumerate().for_each(|(block, results)| {
            // SAFETY: they are available where this module runs, and held for this block only.
            let _tiles = unsafe { Tiles::configure() };
            let (first, rows) = (block * ROWS, results.len());
            let x = &x[first * width..];
            work(
                first,
                results,
                BlockInputs { x, width, rows, packed: packed.0.as_lines(), biases: &biases },
            );
        });
    }
}

/// The inputs of a block of rows.
#[derive(Clone, Copy)]
struct BlockInputs<'a> {
    /// bf16, padded to whole tiles.
    x: &'a [u16],
    width: usize,
    rows: usize,
    packed: &'a [Line],
    biases: &'a [f32],
}

/// The chosen classes of each row in ascending order, as indices into the list of all.
pub(super) struct Order(Vec<u32>);

impl Order {
    pub(super) fn of(classes: &Classes) -> Self {
        let mut order: Vec<u32> = (0..classes.len() as u32).collect();
        let ids = classes.ids();
        for row in 0..classes.rows() {
            let range = classes.range(row);
            if !ids[range.clone()].is_sorted() {
                order[range].sort_by_key(|&place| ids[place as usize]);
            }
        }
        Self(order)
    }

    /// Calls `take(index, class)` for the next classes of a row that are below `limit`.
    pub(super) fn advance(
        &self,
        cursor: &mut usize,
        end: usize,
        classes: &Classes,
        limit: usize,
        mut take: impl FnMut(usize, usize),
    ) {
        while *cursor < end {
            let place = self.0[*cursor] as usize;
            let class = classes.ids()[place] as usize;
            if class >= limit {
                break;
            }
            take(place, class);
            *cursor += 1;
        }
    }
}

/// Scores of 32 rows for up to [`GROUP`] panels of classes, without bias: `c[row][class]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn scores(left: MatrixView, steps: usize, right: &[Line], c: &mut [f32]) {
    for (panel, right) in right.chunks_exact(steps * STEP).take(GROUP).enumerate() {
        unsafe {
            multiply(Left::rows(left), right, steps, c.as_mut_ptr().add(panel * SIDE), GROUP_CLASSES, false)
        };
    }
}

/// The sums of each row. Calls `each(row, first class, scores with bias, whether a maximum has risen)` for each row and
/// group of classes, in the order of the classes.
///
/// # Safety
/// The CPU has the features, and tiles are configured.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn block_sums(inputs: BlockInputs, mut each: impl FnMut(usize, usize, &[f32], bool)) -> Vec<RowSums> {
    let BlockInputs { x, width, rows, packed, biases } = inputs;
    let steps = width / SIDE;
    let none = RowSums { top: _mm512_set1_ps(LOW), sum: _mm512_setzero_ps(), total: _mm512_setzero_ps() };
    let mut states = vec![none; rows];
    let mut c = Buffer::f32(SIDE * GROUP_CLASSES);
    let c = c.as_f32_mut();
    for (group, biases) in biases.chunks_exact(GROUP_CLASSES).enumerate() {
        let right = &packed[group * GROUP * steps * STEP..];
        let begin = group * GROUP_CLASSES;
        for tile in (0..rows).step_by(SIDE) {
            unsafe { scores(MatrixView::of(&x[tile * width..], width), steps, right, c) };
            for row in tile..rows.min(tile + SIDE) {
                let scores = &mut c[(row - tile) * GROUP_CLASSES..][..GROUP_CLASSES];
                let raised = states[row].add(scores, biases);
                each(row, begin, scores, raised);
            }
        }
    }
    states
}

impl RowSums {
    /// The largest score, Σ e^(score − it) and the sum of the scores, over all lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn of_lanes(&self) -> (f32, f32, f32) {
        let top = _mm512_reduce_max_ps(self.top);
        let factors =
            exp(_mm512_max_ps(_mm512_set1_ps(-104.0), _mm512_sub_ps(self.top, _mm512_set1_ps(top))));
        (top, _mm512_reduce_add_ps(_mm512_mul_ps(self.sum, factors)), _mm512_reduce_add_ps(self.total))
    }

    /// Adds the biases to the scores, and these to the sums. Returns whether the maximum of a lane has risen.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn add(&mut self, scores: &mut [f32], biases: &[f32]) -> bool {
        assert!(scores.len() == GROUP_CLASSES && biases.len() == GROUP_CLASSES);
        const PARTS: usize = GROUP_CLASSES / 16;
        let mut own = [_mm512_setzero_ps(); PARTS];
        let mut top = self.top;
        let low = _mm512_set1_ps(f32::NEG_INFINITY);
        for (i, own) in own.iter_mut().enumerate() {
            // SAFETY: both have the asserted number of values.
            unsafe {
                let at = scores.as_mut_ptr().add(16 * i);
                let bias = _mm512_loadu_ps(biases.as_ptr().add(16 * i));
                *own = _mm512_add_ps(_mm512_loadu_ps(at), bias);
                _mm512_storeu_ps(at, *own);
                let allowed = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(bias, low);
                self.total = _mm512_mask_add_ps(self.total, allowed, self.total, *own);
            }
            // A maximum with NaN is its second operand.
            top = _mm512_max_ps(*own, top);
        }
        // NaN stays NaN, because it is the second operand of the maximum.
        let exp = |x| exp(_mm512_max_ps(_mm512_set1_ps(-104.0), x));
        let raised = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(top, self.top) != 0;
        if raised {
            self.sum = _mm512_mul_ps(self.sum, exp(_mm512_sub_ps(self.top, top)));
            self.top = top;
        }
        for own in own {
            self.sum = _mm512_add_ps(self.sum, exp(_mm512_sub_ps(own, top)));
        }
        raised
    }
}
