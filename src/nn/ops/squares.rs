//! The size of a gradient, where the CPU does not compute.

use candle_core::{Result, Tensor};

use super::kernel_path::{KernelPath, select_path};

/// Values whose sum is Σ x², `[some]`, still where `x` is.
pub fn squares(x: &Tensor) -> Result<Tensor> {
    match select_path(x) {
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::squares(x),
        KernelPath::Cpu | KernelPath::Stock => x.sqr()?.sum_all()?.reshape(1),
    }
}
