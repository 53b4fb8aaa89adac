//! The size of a gradient, where the CPU does not compute.

use candle_core::{Result, Tensor};

use super::way::{Way, way};

/// Values whose sum is Σ x², `[some]`, still where `x` is.
pub fn squares(x: &Tensor) -> Result<Tensor> {
    match way(x) {
        #[cfg(any(feature = "cuda", test))]
        Way::Kernels => super::kernels::squares(x),
        Way::Cpu | Way::Stock => x.sqr()?.sum_all()?.reshape(1),
    }
}
