//! The squared norm of a gradient on a device.

use candle_core::{Result, Tensor};

use super::kernel_path::{KernelPath, select_path};

/// Partial sums of Σ x² as a vector on the device of `x`.
pub fn squares(x: &Tensor) -> Result<Tensor> {
    match select_path(x) {
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::squares(x),
        KernelPath::Cpu | KernelPath::Stock => x.sqr()?.sum_all()?.reshape(1),
    }
}
