//! Selects how an op is computed.
//!
//! The CPU uses the fused kernels of this folder. A GPU uses candle's products, and the kernels of `nn::device` between
//! them. Other devices use stock candle ops, which are also the definitions that tests compare the other paths with.

use candle_core::{Device, Tensor};

/// How an op is computed; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPath {
    Cpu,
    #[cfg(any(feature = "cuda", test))]
    Kernels,
    Stock,
}

/// The path of an op, given its first argument.
pub fn select_path(tensor: &Tensor) -> KernelPath {
    #[cfg(test)]
    if let Some(path) = overridden::get() {
        return path;
    }
    match tensor.device() {
        Device::Cpu => KernelPath::Cpu,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => KernelPath::Kernels,
        _ => KernelPath::Stock,
    }
}

#[cfg(test)]
pub use overridden::with_path;

/// Overrides the path of a device. The kernels then run in emulation.
#[cfg(test)]
mod overridden {
    use std::cell::Cell;

    use super::KernelPath;

    thread_local! { static OVERRIDE: Cell<Option<KernelPath>> = const { Cell::new(None) } }

    pub fn get() -> Option<KernelPath> {
        OVERRIDE.get()
    }

    /// Runs `work` with one path for all ops on this thread.
    pub fn with_path<T>(path: KernelPath, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<KernelPath>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
            }
        }
        let _restore = Restore(OVERRIDE.replace(Some(path)));
        work()
    }
}
