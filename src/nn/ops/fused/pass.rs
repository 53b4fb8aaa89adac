//! Products of a block of rows with packed weights, and the gradients of weights over all blocks.

use std::arch::x86_64::{
    __m512i, _mm512_add_ps, _mm512_castsi512_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_storeu_ps,
};

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::super::cpu::with_values;
use super::super::gradients::write_to;
use super::buffer::Buffer;
use super::layout::{Block, Layout};
use super::rows::{Norm, TileSums};
use super::shared::Shared;
use super::tile::{Left, MatrixView, SIDE, STEP, multiply};
use crate::nn::gemm::Operand;
use crate::nn::gemm::amx::pack_b;
use crate::nn::gemm::lines::{LANES, Line, transpose};
use crate::nn::tiles::Tiles;

/// Largest number of steps before the sums go back to memory, so that the left operand stays in the L1 cache.
const STEPS: usize = 16;

/// Packs a weight `[out, in]` as the right operand of `x · Wᵀ`.
pub(super) fn packed(weight: &Tensor) -> Result<Buffer> {
    let (out, input) = weight.dims2()?;
    with_values(weight, |weight| pack(weight, input, true, out, input))
}

/// Packs a weight `[out, in]` as the right operand of `dy · W`.
pub(super) fn packed_for_backward(weight: &Tensor) -> Result<Buffer> {
    let (out, input) = weight.dims2()?;
    with_values(weight, |weight| pack(weight, input, false, input, out))
}

/// Packs a right operand `[k, n]` that is stored in `columns` columns.
pub(super) fn pack(data: &[f32], columns: usize, transposed: bool, n: usize, k: usize) -> Buffer {
    let panel = k / SIDE * STEP;
    let mut packed = Buffer::lines(n / SIDE * panel);
    let operand = Operand { data, columns, transposed };
    let panels = packed.as_lines_mut()[..n / SIDE * panel].par_chunks_mut(panel);
    // SAFETY: the CPU has the features (see the module `fused`).
    panels.enumerate().for_each(|(i, out)| unsafe { pack_b(operand, n, k, i * SIDE, out) });
    packed
}

/// Calls `work` for each block, with configured tiles, and returns the results in order.
pub(super) fn for_blocks<T: Send>(layout: &Layout, work: impl Fn(&Block) -> T + Sync) -> Vec<T> {
    let one = |block: &Block| {
        // SAFETY: they are available where this module runs, and held for this block only.
        let _tiles = unsafe { Tiles::configure() };
        work(block)
    };
    layout.blocks.par_iter().map(one).collect()
}

/// Normalizes the rows of a block; empty rows become zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn normalise(x: &[f32], padded: &[Option<u32>], norm: Norm, out: &mut [u16]) {
    let width = norm.gain.len();
    let mut scratch = vec![0.0; width];
    for (padded, out) in padded.iter().zip(out.chunks_exact_mut(width)) {
        match padded {
            Some(row) => norm.forward(&x[*row as usize * width..][..width], &mut scratch, out),
            None => out.fill(0),
        }
    }
}

/// `left · right` for a wide result over a short reduction. Calls `take(row, column, sums)` for each 32 x 32 of it.
///
/// # Safety
/// `left` must have `rows` rows, a multiple of 32, and tiles must be configured.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn wide(
    left: MatrixView,
    rows: usize,
    right: &[Line],
    (steps, columns): (usize, usize),
    mut take: impl FnMut(usize, usize, &TileSums),
) {
    let mut sums = TileSums::ZERO;
    for (panel, right) in right.chunks_exact(steps * STEP).take(columns / SIDE).enumerate() {
        for row in (0..rows).step_by(SIDE) {
            unsafe {
                multiply(Left::rows(left.from(row, 0)), right, steps, sums.0.as_mut_ptr(), SIDE, false)
            };
            take(row, panel * SIDE, &sums);
        }
    }
}

/// `left · right` for a narrow result over any reduction. Calls `take(row, sums)` for each row of it.
///
/// # Safety
/// As [`wide`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn narrow(
    left: MatrixView,
    rows: usize,
    right: &[Line],
    (steps, columns): (usize, usize),
    mut take: impl FnMut(usize, &[f32]),
) {
    let mut slab = Buffer::f32(SIDE * columns);
    for row in (0..rows).step_by(SIDE) {
        let slab = slab.as_f32_mut();
        for start in (0..steps).step_by(STEPS) {
            let here = STEPS.min(steps - start);
            for (panel, right) in right.chunks_exact(steps * STEP).take(columns / SIDE).enumerate() {
                unsafe {
                    let left = Left::rows(left.from(row, start * SIDE));
                    let c = slab.as_mut_ptr().add(panel * SIDE);
                    multiply(left, &right[start * STEP..], here, c, columns, start > 0);
                }
            }
        }
        for (i, sums) in slab.chunks_exact(columns).take(SIDE).enumerate() {
            take(row + i, sums);
        }
    }
}

/// A packed operand over all rows, block by block, of `width` columns.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub lines: &'a [Line],
    pub width: usize,
}

/// The lines of a block in an operand of `width` columns.
fn lines_of(block: &Block, width: usize) -> std::ops::Range<usize> {
    let first = block.first * width / SIDE;
    first..first + block.rows * width / SIDE
}

impl Shared<Line> {
    /// The lines of a block in an operand of `width` columns.
    ///
    /// # Safety
    /// As [`Self::part`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn block(&self, block: &Block, width: usize) -> &mut [Line] {
        let lines = lines_of(block, width);
        unsafe { self.part(lines.start, lines.len()) }
    }
}

/// Adds `leftᵀ · right` over all rows, `[left, right]`, to the gradient of a weight, or its transpose `[right, left]`
/// if `transposed` is set. `left` is packed by `pack_left`, `right` by `pack_right`, each block separately. Sums add
/// the blocks in order.
pub(super) fn add_weight_gradient(
    layout: &Layout,
    left: Packed,
    right: Packed,
    transposed: bool,
    weight: &Tensor,
) -> Result<()> {
    debug_assert!(weight.elem_count() == left.width * right.width);
    // SAFETY: the panels write all values.
    unsafe { write_to(weight, |place, fresh| weight_gradient(layout, left, right, transposed, place, fresh)) }
}

/// Writes `left.width · right.width` values if they are `fresh`, that is, uninitialized; otherwise adds to them.
///
/// # Safety
/// `place` must have memory for them.
pub(super) unsafe fn weight_gradient(
    layout: &Layout,
    left: Packed,
    right: Packed,
    transposed: bool,
    place: *mut f32,
    fresh: bool,
) {
    let to = Shared::of(place);
    (0..left.width / SIDE).into_par_iter().for_each(|panel| {
        // SAFETY: they are available where this module runs, and held for this block only.
        let _tiles = unsafe { Tiles::configure() };
        // SAFETY: the CPU has the features (see the module `fused`); panels have separate rows or columns.
        unsafe { panel_gradient(layout, left, right, transposed, panel, &to, fresh) }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn panel_gradient(
    layout: &Layout,
    left: Packed,
    right: Packed,
    transposed: bool,
    panel: usize,
    to: &Shared<f32>,
    fresh: bool,
) {
    let width = right.width;
    let mut slab = Buffer::f32(if transposed { SIDE * width } else { 0 });
    let own = if transposed { slab.as_f32_mut().as_mut_ptr() } else { to.at(panel * SIDE * width) };
    for (index, block) in layout.blocks.iter().enumerate() {
        let steps = block.rows / SIDE;
        let left = &left.lines[lines_of(block, left.width)][panel * steps * STEP..][..steps * STEP];
        let right = &right.lines[lines_of(block, width)];
        for start in (0..steps).step_by(STEPS) {
            let here = STEPS.min(steps - start);
            let left = Left::packed(&left[start * STEP..]);
            for (column, right) in right.chunks_exact(steps * STEP).enumerate() {
                let add = !(transposed || fresh) || index > 0 || start > 0;
                unsafe { multiply(left, &right[start * STEP..], here, own.add(column * SIDE), width, add) };
            }
        }
    }
    if !transposed {
        return;
    }
    // Transposes 16 x 16 values at a time.
    for row in (0..SIDE).step_by(LANES) {
        for column in (0..width).step_by(LANES) {
            let read = |i: usize| unsafe {
                _mm512_loadu_si512(own.add((row + i) * width + column).cast::<__m512i>())
            };
            for (i, sums) in transpose(std::array::from_fn(read)).into_iter().enumerate() {
                unsafe {
                    let to = to.at((column + i) * left.width + panel * SIDE + row);
                    let sums = _mm512_castsi512_ps(sums);
                    let sums = if fresh { sums } else { _mm512_add_ps(_mm512_loadu_ps(to), sums) };
                    _mm512_storeu_ps(to, sums);
                }
            }
        }
    }
}
