//! Matrix products, the bulk of all arithmetic here: row-major f32 slices in, row-major f32 out, in
//! one of two precisions. Training calls this for the products that candle would do on the CPU.
//!
//! Three promises that the rest of the house builds on:
//!
//! * A row of the result depends on its own row of `a` and on `b`: the same bits whatever the other
//!   rows are and however many (so a sentence translates the same in every batch).
//! * The number of threads changes nothing. They are those of the rayon pool that the caller is in.
//! * The same CPU gives the same bits each time. Another CPU may not: it has other instructions.
//!
//! Knows nothing of tensors, gradients or models.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
#[cfg(target_arch = "x86_64")]
pub(super) mod lines;
mod single;
#[cfg(test)]
mod tests;

use kernel::Kernel;
pub use kernel::bf16_kernel;
#[cfg(target_arch = "x86_64")]
pub(super) use kernel::tiles_chosen;

/// What the operands are rounded to before they are multiplied. Sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// 8 bits of mantissa (relative error of an operand up to 2^-8; denormals count as zero), for speed: ten
    /// times that of f32 with AMX, twice with a fast AVX512-BF16. Where [`bf16_kernel`] is none this is the
    /// same as `F32`, and then not the same numbers as on a CPU that has one.
    Bf16,
}

/// A stored row-major matrix, and whether the product takes it the other way round.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) data: &'a [f32],
    /// As stored: the stride of its rows.
    pub(super) columns: usize,
    pub(super) transposed: bool,
}

/// `c = op(a) · op(b)`, or `c += op(a) · op(b)` where `accumulate`.
///
/// `c` is `[m, n]`; `a` is `[m, k]` or, transposed, stored as `[k, m]`; `b` is `[k, n]` or,
/// transposed, stored as `[n, k]`. A linear layer with its weight stored `[out, in]`:
///
/// * forward `y[t, out] = x[t, in] · weightᵀ`: `b` transposed;
/// * `dx[t, in] = dy[t, out] · weight`: nothing transposed;
/// * `dweight[out, in] = dyᵀ · x`: `a` transposed, the reduction runs over `t`.
///
/// # Panics
/// Where the length of a slice is not that of its shape: a mistake of the caller.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    precision: Precision,
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_transposed: bool,
    b: &[f32],
    b_transposed: bool,
    c: &mut [f32],
    accumulate: bool,
) {
    let kernel = match precision {
        Precision::F32 => Kernel::F32,
        Precision::Bf16 => Kernel::for_bf16(),
    };
    gemm_by(kernel, m, n, k, a, a_transposed, b, b_transposed, c, accumulate);
}

/// [`gemm`] by a kernel that this CPU has.
#[allow(clippy::too_many_arguments)]
fn gemm_by(
    kernel: Kernel,
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_transposed: bool,
    b: &[f32],
    b_transposed: bool,
    c: &mut [f32],
    accumulate: bool,
) {
    assert_eq!(a.len(), m * k, "a is [m, k]");
    assert_eq!(b.len(), k * n, "b is [k, n]");
    assert_eq!(c.len(), m * n, "c is [m, n]");
    if !accumulate && k == 0 {
        c.fill(0.0);
    }
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let a = Operand { data: a, columns: if a_transposed { m } else { k }, transposed: a_transposed };
    let b = Operand { data: b, columns: if b_transposed { k } else { n }, transposed: b_transposed };
    kernel.gemm(m, n, k, a, b, c, accumulate);
}
