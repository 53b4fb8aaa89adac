//! The bf16 matrix product for CPUs with AVX512-BF16. Operands are rounded to bf16 (to nearest, ties to even) while
//! they are packed; sums are f32.
//!
//! The loops follow BLIS (Van Zee & van de Geijn 2015). `b` is packed once into panels of [`NR`] columns, cut along the
//! reduction every [`KC`] elements. The threads share blocks of rows of `c`. Each packs its rows of `a` chunk by chunk
//! and computes tiles of [`MR`]x[`NR`] sums in registers. One instruction reads *pairs* of neighbours along the
//! reduction, so packed data is counted in pairs (`u32`, with the even element in the low half).
//!
//! Every sum adds its terms in an order that depends only on `k`, so the bits of an element of `c` do not depend on its
//! tile, block or thread.

use std::arch::x86_64::{
    __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_load_si512,
    _mm512_mask_storeu_ps, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
};
use std::cell::Cell;
use std::mem::transmute;

use rayon::prelude::*;

use super::Operand;
use super::lines::{LANES, Line, grow, interleave, load, mask, part, round, store, transpose};

/// Rows of a register tile.
const MR: usize = 6;
/// Registers across a tile: `MR * NV` of the 32 hold sums, the others hold operands.
const NV: usize = 4;
const NR: usize = NV * LANES;
/// Elements of the reduction in one pass, so that the packed rows of a block stay in the L2 cache.
const KC: usize = 512;
/// Largest number of rows of a block.
const MC: usize = 96;

/// Strides of a packed block of `a`, in pairs. The additional line keeps neighbours out of the same cache set.
const ROWS_STRIDE: usize = KC / 2 + LANES;
const COLUMNS_STRIDE: usize = MC + LANES;

thread_local! {
    /// Reused between calls, because new pages cost more than the packing. Taken out while in use, because a thread
    /// that waits in rayon may start another product.
    static PACKED_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static PACKED_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// `c[m, n] (+)= a[m, k] · b[k, n]`; all of m, n, k at least 1.
///
/// # Panics
/// If [`available`] is false or an operand is smaller than its shape.
pub(super) fn gemm(m: usize, n: usize, k: usize, a: Operand, b: Operand, c: &mut [f32], accumulate: bool) {
    assert!(available());
    let panels = n.div_ceil(NR);
    let mut packed_b = PACKED_B.take();
    grow(&mut packed_b, panels * k.div_ceil(2) * NV);
    let mut rest = &mut packed_b[..];
    for start in (0..k).step_by(KC) {
        let pairs = (k - start).min(KC).div_ceil(2);
        let (chunk, tail) = rest.split_at_mut(panels * pairs * NV);
        rest = tail;
        chunk.par_chunks_mut(pairs * NV).enumerate().for_each(|(panel, out)| {
            // SAFETY: the CPU has the features, by the assertion above.
            unsafe { pack_b(b, n, k, start, panel * NR, out) }
        });
    }
    let rows = block_rows(m, a);
    let packed = &packed_b[..];
    c.par_chunks_mut(rows * n).enumerate().for_each(|(index, c)| {
        let mut scratch = PACKED_A.take();
        grow(&mut scratch, (MC * ROWS_STRIDE).max(KC / 2 * COLUMNS_STRIDE) / LANES);
        // SAFETY: as above.
        unsafe { block(index * rows, m, n, k, a, packed, &mut scratch, c, accumulate) };
        PACKED_A.set(scratch);
    });
    PACKED_B.set(packed_b);
}

/// Rows of a block: whole tiles, at most [`MC`], and enough blocks that the threads get equal shares. For a transposed
/// `a`, whose columns are read, a block is a multiple of whole cache lines.
fn block_rows(m: usize, a: Operand) -> usize {
    let whole = if a.transposed { 3 * LANES } else { MR };
    m.div_ceil(8 * rayon::current_num_threads()).next_multiple_of(whole).min(MC)
}

const _: () = assert!((3 * LANES).is_multiple_of(MR) && MC.is_multiple_of(3 * LANES));

/// Computes the rows of the product from `first`, as many as `c` holds.
#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn block(
    first: usize,
    m: usize,
    n: usize,
    k: usize,
    a: Operand,
    packed_b: &[Line],
    scratch: &mut [Line],
    c: &mut [f32],
    accumulate: bool,
) {
    let rows = c.len() / n;
    let panels = n.div_ceil(NR);
    let mut packed_b = packed_b;
    for start in (0..k).step_by(KC) {
        let pairs = (k - start).min(KC).div_ceil(2);
        if a.transposed {
            pack_a_columns(a, m, k, first, rows, start, scratch);
        } else {
            pack_a_rows(a, k, first, rows, start, scratch);
        }
        let (chunk, rest) = packed_b.split_at(panels * pairs * NV);
        packed_b = rest;
        for (panel, b) in chunk.chunks_exact(pairs * NV).enumerate() {
            for row in (0..rows).step_by(MR) {
                let c = &mut c[row * n + panel * NR..];
                let size = (MR.min(rows - row), NR.min(n - panel * NR));
                let add = accumulate || start > 0;
                if a.transposed {
                    tile::<1, COLUMNS_STRIDE>(pairs, &pairs_of(scratch)[row..], b, c, n, size, add);
                } else {
                    let a = &pairs_of(scratch)[row * ROWS_STRIDE..];
                    tile::<ROWS_STRIDE, 1>(pairs, a, b, c, n, size, add);
                }
            }
        }
    }
}

fn pairs_of(lines: &[Line]) -> &[u32] {
    // SAFETY: a Line consists of sixteen u32.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// One tile: `MR` x `NR` sums over `pairs` pairs, of which `size` (rows, columns) are stored to `c`.
/// `ROW` and `STEP` are the strides of packed `a` between rows and along the reduction.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn tile<const ROW: usize, const STEP: usize>(
    pairs: usize,
    a: &[u32],
    b: &[Line],
    c: &mut [f32],
    stride: usize,
    size: (usize, usize),
    add: bool,
) {
    assert!(a.len() > (MR - 1) * ROW + (pairs - 1) * STEP && b.len() >= pairs * NV);
    for row in 0..size.0 {
        for v in 0..NV {
            _mm_prefetch::<_MM_HINT_T0>(c.as_ptr().wrapping_add(row * stride + v * LANES).cast());
        }
    }
    let mut sums = [[_mm512_setzero_ps(); NV]; MR];
    for p in 0..pairs {
        let mut right = [_mm512_setzero_si512(); NV];
        for (v, right) in right.iter_mut().enumerate() {
            // SAFETY: p < pairs, v < NV, and b holds pairs * NV lines, each aligned.
            *right = unsafe { _mm512_load_si512(b.as_ptr().add(p * NV + v).cast()) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the largest index is the one asserted above.
            let left = as_bf16(_mm512_set1_epi32(unsafe { *a.get_unchecked(row * ROW + p * STEP) } as i32));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, left, as_bf16(right));
            }
        }
    }
    for (row, sums) in sums.iter().enumerate().take(size.0) {
        for (v, &sum) in sums.iter().enumerate() {
            let column = v * LANES;
            if column < size.1 {
                let c = &mut c[row * stride + column..][..LANES.min(size.1 - column)];
                let sum = if add { _mm512_add_ps(load(c), sum) } else { sum };
                // SAFETY: the mask stores as many lanes as the slice holds.
                unsafe { _mm512_mask_storeu_ps(c.as_mut_ptr(), mask(c.len()), sum) };
            }
        }
    }
}

/// Packs columns `column..column + NR` of `b` from element `start` of the reduction, to `out[pair][NV]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_b(b: Operand, n: usize, k: usize, start: usize, column: usize, out: &mut [Line]) {
    let end = k.min(start + KC);
    for v in 0..NV {
        let column = column + v * LANES;
        if !b.transposed {
            for (pair, out) in out.chunks_exact_mut(NV).enumerate() {
                let row = start + 2 * pair;
                store(
                    &mut out[v],
                    interleave(part(b, row, column, end, n), part(b, row + 1, column, end, n)),
                );
            }
            continue;
        }
        for (group, out) in out.chunks_mut(LANES * NV).enumerate() {
            let from = start + group * 2 * LANES;
            let mut square = [_mm512_setzero_si512(); LANES];
            for (row, line) in square.iter_mut().enumerate() {
                *line =
                    round(part(b, column + row, from, n, end), part(b, column + row, from + LANES, n, end));
            }
            for (out, line) in out.chunks_exact_mut(NV).zip(transpose(square)) {
                store(&mut out[v], line);
            }
        }
    }
}

/// Packs rows `first..first + rows` of `a[m, k]` from column `start`: row after row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_a_rows(a: Operand, k: usize, first: usize, rows: usize, start: usize, out: &mut [Line]) {
    let end = k.min(start + KC);
    for (row, out) in out.chunks_exact_mut(ROWS_STRIDE / LANES).enumerate().take(rows) {
        for (line, column) in out.iter_mut().zip((start..end).step_by(2 * LANES)) {
            let row = first + row;
            store(
                line,
                round(part(a, row, column, row + 1, end), part(a, row, column + LANES, row + 1, end)),
            );
        }
    }
}

/// Packs columns `first..first + rows` of `a[k, m]` from row `start`: pair after pair.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_a_columns(a: Operand, m: usize, k: usize, first: usize, rows: usize, start: usize, out: &mut [Line]) {
    let end = k.min(start + KC);
    for (out, row) in out.chunks_exact_mut(COLUMNS_STRIDE / LANES).zip((start..end).step_by(2)) {
        for (line, column) in out.iter_mut().zip((first..first + rows).step_by(LANES)) {
            store(line, interleave(part(a, row, column, end, m), part(a, row + 1, column, end, m)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_bf16(pairs: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { transmute(pairs) }
}
