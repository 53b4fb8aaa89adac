//! temporary
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision { F32, Bf16 }
#[allow(clippy::too_many_arguments)]
pub fn gemm(_p: Precision, m: usize, n: usize, k: usize, a: &[f32], ta: bool, b: &[f32], tb: bool, c: &mut [f32], acc: bool) {
    let (a_rs, a_cs) = if ta { (1, m) } else { (k, 1) };
    let (b_rs, b_cs) = if tb { (1, k) } else { (n, 1) };
    unsafe {
        gemm::gemm(m, n, k, c.as_mut_ptr(), 1, n as isize, acc, a.as_ptr(), a_cs as isize, a_rs as isize,
            b.as_ptr(), b_cs as isize, b_rs as isize, if acc {1.0f32} else {0.0}, 1.0, false, false, false, gemm::Parallelism::Rayon(0));
    }
}
