//! The inner loop of every product here, on the tile registers of AMX (see `gemm::amx`), and how operands are laid out for it.
//!
//! A step multiplies 32 rows of the left operand by 32 columns of the right one over 32 elements of the reduction. All matrices are
//! bf16. The left one may lie row by row as it is. The right one is packed: for each panel of 32 columns the steps, each of two tiles
//! of 16 columns, each of 16 lines of pairs along the reduction.

use std::arch::asm;
use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_permutex2var_epi16, _mm512_setzero_si512};

use crate::nn::gemm::lines::{LANES, Line, store, transpose};

/// Rows and columns of a step, and its part of the reduction.
pub(super) const SIDE: usize = 32;
/// Lines of the two tiles of one operand that a step reads.
pub(super) const STEP: usize = 32;

/// bf16 values row by row.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub at: *const u16,
    /// Values from a row to the next.
    pub stride: usize,
}

// SAFETY: whoever reads through it says that nobody writes there meanwhile.
unsafe impl Send for Rows {}
unsafe impl Sync for Rows {}

impl Rows {
    /// Of a matrix of so many columns.
    pub fn of(values: &[u16], stride: usize) -> Self {
        Self { at: values.as_ptr(), stride }
    }

    /// From a row and column on.
    ///
    /// # Safety
    /// They lie in the matrix.
    #[inline]
    pub unsafe fn from(self, row: usize, column: usize) -> Self {
        Self { at: unsafe { self.at.add(row * self.stride + column) }, ..self }
    }
}

/// A left operand: where its first tile is, and how to get to the others.
#[derive(Clone, Copy)]
pub(super) struct Left {
    at: *const u8,
    /// Bytes from a row of a tile to the next, from the upper tile to the lower one, and from a step to the next.
    stride: usize,
    lower: usize,
    step: usize,
}

impl Left {
    /// Rows as they lie.
    #[inline]
    pub fn rows(rows: Rows) -> Self {
        let stride = 2 * rows.stride;
        Self { at: rows.at.cast(), stride, lower: 16 * stride, step: 64 }
    }

    /// What [`pack_left`] has packed.
    #[inline]
    pub fn packed(lines: &[Line]) -> Self {
        Self { at: lines.as_ptr().cast(), stride: 64, lower: 1024, step: 2048 }
    }
}

/// `c (+)= left · right`, 32 x 32, over so many steps; rows of `c` are `stride` values apart. Tiles must be configured.
///
/// # Safety
/// Both operands have as many steps, `c` has its rows, and nobody else looks at them.
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

/// 32 values of a row.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line(rows: Rows, row: usize, column: usize) -> __m512i {
    unsafe { _mm512_loadu_si512(rows.at.add(row * rows.stride + column).cast()) }
}

/// Pairs of two rows: of their first 16 columns, and of the others.
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
    // SAFETY: each reads one register of plain data.
    let (low, high) =
        unsafe { (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast())) };
    (_mm512_permutex2var_epi16(even, low, odd), _mm512_permutex2var_epi16(even, high, odd))
}

/// Pairs of rows `row..row + 32`, those from `real` on as zeros, in 32 columns from `column` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn row_pairs(rows: Rows, row: usize, real: usize, column: usize) -> [[__m512i; LANES]; 2] {
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

/// Packs `matrix[real, width]` as a right operand whose reduction runs over its rows, `real` filled up to `steps` times 32 with
/// zeros: [panel of 32 columns][step][32 lines].
///
/// # Safety
/// The matrix has so many rows and columns.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_right(matrix: Rows, real: usize, steps: usize, width: usize, out: &mut [Line]) {
    for (panel, out) in out.chunks_exact_mut(steps * STEP).take(width / SIDE).enumerate() {
        for (step, out) in out.chunks_exact_mut(STEP).enumerate() {
            let tiles = unsafe { row_pairs(matrix, step * SIDE, real, panel * SIDE) };
            for (out, tile) in out.iter_mut().zip(tiles.as_flattened()) {
                store(out, *tile);
            }
        }
    }
}

/// Packs the transposed of `matrix[real, width]` as a right operand: the reduction runs over its columns, and its rows, filled up with
/// zeros, are the columns: [panel of 32 rows][step][32 lines].
///
/// # Safety
/// As [`pack_right`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_right_transposed(matrix: Rows, real: usize, width: usize, out: &mut [Line]) {
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

/// Packs the transposed of `matrix[real, width]` as a left operand: its columns are the rows, and the reduction runs over its rows,
/// filled up with zeros: [panel of 32 columns][step][32 lines].
///
/// # Safety
/// As [`pack_right`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_left(matrix: Rows, real: usize, steps: usize, width: usize, out: &mut [Line]) {
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
