//! Matrix products of row-major f32 slices on the CPU, in one of two precisions. Training uses them instead of
//! candle's.
//!
//! Guarantees:
//!
//! * A row of the result depends only on its own row of `a` and on `b`, bit for bit. So a sentence translates the same
//!   in every batch.
//! * The result does not depend on the number of threads. The threads are those of the caller's rayon pool.
//! * The same CPU gives the same bits each time. Another CPU may use other instructions and give other bits.
//!
//! This module does not depend on tensors, gradients or models.

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
#[cfg(target_arch = "x86_64")]
pub(super) use kernel::amx_selected;
pub use kernel::bf16_kernel;

/// The number type that operands are rounded to before they are multiplied. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// 8 bits of precision: the relative error of an operand is at most 2^-8, and denormals count as zero. With AMX
    /// ten times as fast as f32, with a fast AVX512-BF16 twice. If [`bf16_kernel`] is `None`, this is the same as
    /// `F32`, and results differ from those of a CPU with such a kernel.
    Bf16,
}

/// A stored row-major matrix, and whether the product reads it transposed.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) data: &'a [f32],
    /// Columns as stored, which is the stride of the rows.
    pub(super) columns: usize,
    pub(super) transposed: bool,
}

/// `c = op(a) · op(b)`, or `c += op(a) · op(b)` if `accumulate` is set.
///
/// `c` is `[m, n]`; `a` is `[m, k]` or, transposed, stored as `[k, m]`; `b` is `[k, n]` or,
/// transposed, stored as `[n, k]`. A linear layer with its weight stored `[out, in]`:
///
/// * forward `y[t, out] = x[t, in] · weightᵀ`: `b` transposed;
/// * `dx[t, in] = dy[t, out] · weight`: nothing transposed;
/// * `dweight[out, in] = dyᵀ · x`: `a` transposed, the reduction runs over `t`.
///
/// # Panics
/// If the length of a slice does not match its shape.
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
    gemm_with_kernel(kernel, m, n, k, a, a_transposed, b, b_transposed, c, accumulate);
}

/// [`gemm`] with a given kernel, which this CPU must support.
#[allow(clippy::too_many_arguments)]
fn gemm_with_kernel(
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
