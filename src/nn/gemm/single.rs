//! The f32 matrix product: crate `gemm`, called so that its order of summation does not depend on the number of rows.
//!
//! That crate (0.19) sums small results in another order, so a row alone and the same row in a batch differ in their
//! last bits. It has four paths, found by reading it and confirmed by comparing all m from 1 to 300 with m = 300:
//!
//! 1. m = 1 or n = 1: a matrix-vector product;
//! 2. m·n <= 256 and both operands contiguous along the reduction (as in `x · weightᵀ`): dot products;
//! 3. m <= 64 and n <= 64: the reduction is cut every 512 elements;
//! 4. otherwise: the reduction is cut by a rule that depends only on k. Threads share tiles, never a sum.
//!
//! So small results are padded to avoid 1 and 2. If n <= 64, the reduction is cut here every 512 elements, so that 3
//! and 4 agree.

use super::Operand;

/// With more elements of the result than this the crate does not use dot products.
const DOT_RESULT: usize = 256;
/// Up to this many columns, the crate's cut of the reduction also depends on the number of rows.
const NARROW: usize = 64;
/// No path of the crate cuts a reduction up to this length.
const UNCUT: usize = 512;

/// `c[m, n] (+)= a[m, k] · b[k, n]`; all of m, n, k at least 1.
pub(super) fn gemm(m: usize, n: usize, k: usize, a: Operand, b: Operand, c: &mut [f32], accumulate: bool) {
    let columns = n.max(2);
    let rows = m.max(DOT_RESULT / columns + 1).max(2);
    if (rows, columns) == (m, n) {
        return product(m, n, k, a, b, c, accumulate);
    }
    let (a, b) = (padded(a, m, k, rows, k), padded(b, k, n, k, columns));
    let mut padded_c = vec![0.0; rows * columns];
    let plain = |data, columns| Operand { data, columns, transposed: false };
    product(rows, columns, k, plain(&a, k), plain(&b, columns), &mut padded_c, false);
    for (to, from) in c.chunks_exact_mut(n).zip(padded_c.chunks_exact(columns)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = if accumulate { *to + from } else { *from };
        }
    }
}

/// A copy of `[m, n]`, not transposed, padded with zeros to `[rows, columns]`.
fn padded(of: Operand, m: usize, n: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (row, out) in out.chunks_exact_mut(columns).enumerate().take(m) {
        for (column, out) in out.iter_mut().enumerate().take(n) {
            let (row, column) = if of.transposed { (column, row) } else { (row, column) };
            *out = of.data[row * of.columns + column];
        }
    }
    out
}

fn product(m: usize, n: usize, k: usize, a: Operand, b: Operand, c: &mut [f32], accumulate: bool) {
    let step = if n <= NARROW { UNCUT } else { k };
    for start in (0..k).step_by(step) {
        let length = step.min(k - start);
        let a_from = start * a.strides().1;
        let b_from = start * b.strides().0;
        let ((a_row, a_column), (b_row, b_column)) = (a.strides(), b.strides());
        let add = accumulate || start > 0;
        assert!(a_from + (m - 1) * a_row + (length - 1) * a_column < a.data.len());
        assert!(b_from + (length - 1) * b_row + (n - 1) * b_column < b.data.len());
        assert!(m * n == c.len());
        let (a, b) = (&a.data[a_from..], &b.data[b_from..]);
        // SAFETY: by the assertions above, all elements that are read and written are inside their slices; `c` is
        // borrowed mutably.
        unsafe {
            gemm::gemm(
                m,
                n,
                length,
                c.as_mut_ptr(),
                1,
                n as isize,
                add,
                a.as_ptr(),
                a_column as isize,
                a_row as isize,
                b.as_ptr(),
                b_column as isize,
                b_row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    }
}

impl Operand<'_> {
    /// Strides between rows and between columns of the matrix as the product reads it.
    fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.columns) } else { (self.columns, 1) }
    }
}
