//! The inner loop of all products of this module, with the tile registers of AMX (see `gemm::amx`), and the layout of
//! its operands.
//!
//! A step multiplies 32 rows of the left operand by 32 columns of the right one over 32 elements of the reduction. All
//! matrices are bf16. The left operand may be row-major. The right operand is packed: for each panel of 32 columns it
//! has steps of two tiles of 16 columns, and a tile has 16 lines of pairs along the reduction.

use std::arch::asm;
use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_permutex2var_epi16, _mm512_setzero_si512};

use crate::nn::gemm::lines::{LANES, Line, store, transpose};

/// Rows, columns and elements of the reduction of a step.
pub(super) const SIDE: usize = 32;
/// Cache lines that a step reads of one operand: two tiles.
pub(super) const STEP: usize = 32;

/// A row-major bf16 matrix, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct MatrixView {
    pub at: *const u16,
    /// Distance between rows, in values.
    pub stride: usize,
}

// SAFETY: readers guarantee that no one writes the values at the same time.
unsafe impl Send for MatrixView {}
unsafe impl Sync for MatrixView {}

impl MatrixView {
    /// A view of a matrix with `stride` columns.
    pub fn of(values: &[u16], stride: usize) -> Self {
        Self { at: values.as_ptr(), stride }
    }

    /// The part that starts at a row and column.
    ///
    /// # Safety
    /// They must be inside the matrix.
    #[inline]
    pub unsafe fn from(self, row: usize, column: usize) -> Self {
        Self { at: unsafe { self.at.add(row * self.stride + column) }, ..self }
    }
}

/// A left operand: the address of its first tile, and the distances to the others.
#[derive(Clone, Copy)]
pub(super) struct Left {
    at: *const u8,
    /// Distances in bytes between rows of a tile, from the upper tile to the lower one, and between steps.
    stride: usize,
    lower: usize,
    step: usize,
}

impl Left {
    /// A row-major matrix.
    #[inline]
    pub fn rows(rows: MatrixView) -> Self {
        let stride = 2 * rows.stride;
        Self { at: rows.at.cast(), stride, lower: 16 * stride, step: 64 }
    }

    /// The output of [`pack_left`].
    #[inline]
    pub fn packed(lines: &[Line]) -> Self {
        Self { at: lines.as_ptr().cast(), stride: 64, lower: 1024, step: 2048 }
    }
}

/// `c (+)= left · right`, 32 x 32, over `steps` steps. Rows of `c` are `stride` values apart.
///
/// # Safety
/// Both operands must have `steps` steps and `c` 32 rows, which no one else may access. Tiles must be configured.
#[inline]
pub(super) unsafe fn multiply(
    left: Left,
    right: &[Line],
    steps: usize,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    debug_assert!(right.len() >= steps * STEP && steps > 0);
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {cs}]",
            "tileloadd tmm1, [{c} + {cs} + 64]",
            "tileloadd tmm2, [{d} + {cs}]",
            "tileloadd tmm3, [{d} + {cs} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tileloadd tmm7, [{b} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{e} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, {step}",
            "add {e}, {step}",
            "add {b}, 2048",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {cs}], tmm0",
            "tilestored [{c} + {cs} + 64], tmm1",
            "tilestored [{d} + {cs}], tmm2",
            "tilestored [{d} + {cs} + 64], tmm3",
            a = inout(reg) left.at => _,
            e = inout(reg) left.at.add(left.lower) => _,
            b = inout(reg) right.as_ptr() => _,
            steps = inout(reg) steps => _,
            stride = in(reg) left.stride,
            step = in(reg) left.step,
            c = in(reg) c,
            d = in(reg) c.add(16 * stride),
            cs = in(reg) 4 * stride,
            line = in(reg) size_of::<Line>(),
            add = in(reg) u32::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Reads 32 values of a row.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line(rows: MatrixView, row: usize, column: usize) -> __m512i {
    unsafe { _mm512_loadu_si512(rows.at.add(row * rows.stride + column).cast()) }
}

/// Interleaves two rows to pairs: those of the first 16 columns, and those of the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(even: __m512i, odd: __m512i) -> (__m512i, __m512i) {
    const fn order(first: u16) -> [u16; 32] {
        let mut order = [0; 32];
        let mut lane = 0;
        while lane < 16 {
            order[2 * lane] = first + lane as u16;
            order[2 * lane + 1] = first + lane as u16 + 32;
            lane += 1;
        }
        order
    }
    const LOW: [u16; 32] = order(0);
    const HIGH: [u16; 32] = order(16);
    // SAFETY: each reads one register from an array of that size.
    let (low, high) =
        unsafe { (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast())) };
    (_mm512_permutex2var_epi16(even, low, odd), _mm512_permutex2var_epi16(even, high, odd))
}

/// Pairs of the rows `row..row + 32` in 32 columns from `column`. Rows from `real` are zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn row_pairs(rows: MatrixView, row: usize, real: usize, column: usize) -> [[__m512i; LANES]; 2] {
    let zero = _mm512_setzero_si512();
    let (mut low, mut high) = ([zero; LANES], [zero; LANES]);
    for pair in 0..LANES {
        let at = row + 2 * pair;
        let even = if at < real { unsafe { line(rows, at, column) } } else { zero };
        let odd = if at + 1 < real { unsafe { line(rows, at + 1, column) } } else { zero };
        (low[pair], high[pair]) = pairs(even, odd);
    }
    [low, high]
}

/// Packs `matrix[real, width]` as a right operand with a reduction over its rows, padded with zeros to `32 · steps`
/// rows: [panel of 32 columns][step][32 lines].
///
/// # Safety
/// The matrix must have `real` rows and `width` columns.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_right(
    matrix: MatrixView,
    real: usize,
    steps: usize,
    width: usize,
    out: &mut [Line],
) {
    for (panel, out) in out.chunks_exact_mut(steps * STEP).take(width / SIDE).enumerate() {
        for (step, out) in out.chunks_exact_mut(STEP).enumerate() {
            let tiles = unsafe { row_pairs(matrix, step * SIDE, real, panel * SIDE) };
            for (out, tile) in out.iter_mut().zip(tiles.as_flattened()) {
                store(out, *tile);
            }
        }
    }
}

/// Packs the transpose of `matrix[real, width]` as a right operand: the reduction runs over the columns of `matrix`,
/// and its rows, padded with zeros, become columns: [panel of 32 rows][step][32 lines].
///
/// # Safety
/// As [`pack_right`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_right_transposed(matrix: MatrixView, real: usize, width: usize, out: &mut [Line]) {
    let steps = width / SIDE;
    for (panel, out) in out.chunks_exact_mut(steps * STEP).take(real.div_ceil(SIDE)).enumerate() {
        for (tile, out) in out.chunks_exact_mut(LANES).enumerate() {
            let (column, row) = (tile / 2 * SIDE, panel * SIDE + tile % 2 * LANES);
            let mut lines = [_mm512_setzero_si512(); LANES];
            for (row, own) in (row..real).zip(&mut lines) {
                *own = unsafe { line(matrix, row, column) };
            }
            for (out, own) in out.iter_mut().zip(transpose(lines)) {
                store(out, own);
            }
        }
    }
}

/// Packs the transpose of `matrix[real, width]` as a left operand: the columns of `matrix` become rows, and the
/// reduction runs over its rows, padded with zeros: [panel of 32 columns][step][32 lines].
///
/// # Safety
/// As [`pack_right`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_left(
    matrix: MatrixView,
    real: usize,
    steps: usize,
    width: usize,
    out: &mut [Line],
) {
    for (panel, out) in out.chunks_exact_mut(steps * STEP).take(width / SIDE).enumerate() {
        for (step, out) in out.chunks_exact_mut(STEP).enumerate() {
            let tiles = unsafe { row_pairs(matrix, step * SIDE, real, panel * SIDE) };
            for (out, tile) in out.chunks_exact_mut(LANES).zip(tiles) {
                for (out, own) in out.iter_mut().zip(transpose(tile)) {
                    store(out, own);
                }
            }
        }
    }
}
