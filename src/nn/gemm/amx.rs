//! The bf16 matrix product for CPUs with AMX (Intel since Sapphire Rapids). Operands are rounded to bf16 (to nearest,
//! ties to even) while they are packed; sums are f32.
//!
//! A tile register holds 16 rows of 64 bytes. One instruction multiplies a tile of 16 rows of `a` and 16 pairs
//! along the reduction by a tile of 16 pairs and 16 columns of `b`. Both operands are packed tile by tile, so
//! that a tile is 16 consecutive cache lines. The kernel holds [`SIDE`]x[`SIDE`] sums in four tiles.
//!
//! The threads share the rows of `c`. Every sum adds its terms in an order that depends only on `k`, so the bits of an
//! element do not depend on its block or thread.
//!
//! The intrinsics are not stable in Rust, so the instructions are written as assembly.

use std::arch::asm;
use std::arch::x86_64::{__m512i, _mm512_setzero_si512};
use std::cell::Cell;

use rayon::prelude::*;

use super::Operand;
use super::lines::{LANES, Line, grow, interleave, part, round, store, transpose};
use crate::nn::tiles::{self, Products, Tiles};

/// Rows and columns of the sums that the kernel holds.
const SIDE: usize = 32;
/// Cache lines of a tile.
const TILE: usize = tiles::ROWS;
/// Cache lines that one step of the kernel reads of one operand: two tiles.
const STEP: usize = 2 * TILE;
/// Elements of the reduction in one step: the pairs of a tile.
const DEPTH: usize = 2 * LANES;
/// Largest number of steps before the sums go back to memory, so that the packed operands stay in the L1 cache.
const STEPS: usize = 16;
/// Largest number of rows of a block.
const MAX_ROWS: usize = 256;

thread_local! {
    /// Reused between calls, because new pages cost more than the packing. Taken out while in use, because a thread
    /// that waits in rayon may start another product.
    static PACKED_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static PACKED_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Whether the CPU has the instructions and the system lets this process use tiles.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
        && tiles::available(Products::Bf16)
}

/// `c[m, n] (+)= a[m, k] · b[k, n]`; all of m, n, k at least 1.
///
/// # Panics
/// If [`available`] is false or an operand is smaller than its shape.
pub(super) fn gemm(m: usize, n: usize, k: usize, a: Operand, b: Operand, c: &mut [f32], accumulate: bool) {
    assert!(available());
    let (panels, steps) = (n.div_ceil(SIDE), k.div_ceil(DEPTH));
    let mut packed_b = PACKED_B.take();
    grow(&mut packed_b, panels * steps * STEP);
    let packed = &mut packed_b[..panels * steps * STEP];
    packed.par_chunks_mut(steps * STEP).enumerate().for_each(|(panel, out)| {
        // SAFETY: the CPU has the features, by the assertion above.
        unsafe { pack_b(b, n, k, panel * SIDE, out) }
    });
    let packed = &*packed;
    let rows = block_rows(m);
    c.par_chunks_mut(rows * n).enumerate().for_each(|(index, c)| {
        let mut scratch = PACKED_A.take();
        grow(&mut scratch, rows / SIDE * STEPS.min(steps) * STEP);
        // SAFETY: as above.
        unsafe { block(index * rows, m, n, k, a, packed, &mut scratch, c, accumulate) };
        PACKED_A.set(scratch);
    });
    PACKED_B.set(packed_b);
}

/// Rows of a block: whole kernels, at most [`MAX_ROWS`], and enough blocks that the threads get equal shares.
fn block_rows(m: usize) -> usize {
    m.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(SIDE).min(MAX_ROWS)
}

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
    let (rows, steps) = (c.len() / n, k.div_ceil(DEPTH));
    let mut edge = [[0f32; SIDE]; SIDE];
    // SAFETY: they are available where this module runs, and held for this block only.
    let _tiles = unsafe { Tiles::configure() };
    for start in (0..steps).step_by(STEPS) {
        let here = STEPS.min(steps - start);
        for (index, out) in scratch.chunks_exact_mut(here * STEP).take(rows.div_ceil(SIDE)).enumerate() {
            pack_a(a, m, k, first + index * SIDE, start * DEPTH, out);
        }
        let add = accumulate || start > 0;
        for (panel, b) in packed_b.chunks_exact(steps * STEP).enumerate() {
            let b = &b[start * STEP..][..here * STEP];
            let columns = SIDE.min(n - panel * SIDE);
            for (index, a) in scratch.chunks_exact(here * STEP).take(rows.div_ceil(SIDE)).enumerate() {
                let own = SIDE.min(rows - index * SIDE);
                let c = &mut c[index * SIDE * n + panel * SIDE..];
                if own == SIDE && columns == SIDE {
                    kernel(a, b, c, n, add);
                    continue;
                }
                if add {
                    for (edge, c) in edge.iter_mut().zip(c.chunks(n)).take(own) {
                        edge[..columns].copy_from_slice(&c[..columns]);
                    }
                }
                kernel(a, b, edge.as_flattened_mut(), SIDE, add);
                for (edge, c) in edge.iter().zip(c.chunks_mut(n)).take(own) {
                    c[..columns].copy_from_slice(&edge[..columns]);
                }
            }
        }
    }
}

/// `c (+)= a · b` for [`SIDE`] rows and columns, over as many steps as `a` and `b` hold. Rows of `c` are `stride`
/// apart. Tiles must be configured.
#[inline]
fn kernel(a: &[Line], b: &[Line], c: &mut [f32], stride: usize, add: bool) {
    assert!(a.len() == b.len() && a.len() >= STEP && a.len().is_multiple_of(STEP));
    assert!(c.len() >= (SIDE - 1) * stride + SIDE && stride >= SIDE);
    let c = c.as_mut_ptr();
    // SAFETY: the tiles read a.len() / STEP times STEP lines of each operand, and of `c` SIDE rows of SIDE elements,
    // which are there by the assertions; `c` is borrowed mutably.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {stride}]",
            "tileloadd tmm1, [{c} + {stride} + 64]",
            "tileloadd tmm2, [{d} + {stride}]",
            "tileloadd tmm3, [{d} + {stride} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tileloadd tmm7, [{b} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{d} + {stride}], tmm2",
            "tilestored [{d} + {stride} + 64], tmm3",
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            steps = inout(reg) a.len() / STEP => _,
            c = in(reg) c,
            d = in(reg) c.add(TILE * stride),
            stride = in(reg) 4 * stride,
            line = in(reg) size_of::<Line>(),
            add = in(reg) u32::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Packs columns `column..column + SIDE` of `b[k, n]` over the whole reduction, as tiles of [pair][column].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(in crate::nn) fn pack_b(b: Operand, n: usize, k: usize, column: usize, out: &mut [Line]) {
    for (index, out) in out.chunks_exact_mut(TILE).enumerate() {
        let (start, column) = (index / 2 * DEPTH, column + index % 2 * LANES);
        let tile = if b.transposed {
            transpose(rows_of_pairs(b, column, start, n, k))
        } else {
            pairs_of_rows(b, start, column, k, n)
        };
        out.iter_mut().zip(tile).for_each(|(line, pairs)| store(line, pairs));
    }
}

/// Packs rows `row..row + SIDE` of `a[m, k]` from element `start` of the reduction, as many as `out` holds, as tiles of
/// [row][pair].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_a(a: Operand, m: usize, k: usize, row: usize, start: usize, out: &mut [Line]) {
    for (index, out) in out.chunks_exact_mut(TILE).enumerate() {
        let (start, row) = (start + index / 2 * DEPTH, row + index % 2 * TILE);
        let tile = if a.transposed {
            transpose(pairs_of_rows(a, start, row, k, m))
        } else {
            rows_of_pairs(a, row, start, m, k)
        };
        out.iter_mut().zip(tile).for_each(|(line, pairs)| store(line, pairs));
    }
}

/// Sixteen pairs of neighbours from each of sixteen stored rows: [row][pair].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn rows_of_pairs(of: Operand, row: usize, column: usize, rows: usize, columns: usize) -> [__m512i; LANES] {
    let mut lines = [_mm512_setzero_si512(); LANES];
    for (row, line) in (row..).zip(&mut lines) {
        let (low, high) =
            (part(of, row, column, rows, columns), part(of, row, column + LANES, rows, columns));
        *line = round(low, high);
    }
    lines
}

/// Pairs of rows from thirty-two stored rows, in sixteen columns: [pair][column].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs_of_rows(of: Operand, row: usize, column: usize, rows: usize, columns: usize) -> [__m512i; LANES] {
    let mut lines = [_mm512_setzero_si512(); LANES];
    for (row, line) in (row..).step_by(2).zip(&mut lines) {
        *line = interleave(part(of, row, column, rows, columns), part(of, row + 1, column, rows, columns));
    }
    lines
}
