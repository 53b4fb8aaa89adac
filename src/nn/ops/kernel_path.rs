//! Which way an op is computed: the one place that decides it.
//!
//! On the CPU by the fused kernels of this folder. On a GPU products are candle's, and what lies between
//! them is done by the kernels of `nn::device`. Anywhere else by stock candle ops, which are also the
//! definitions that tests hold both against.

use candle_core::{Device, Tensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPath {
    Cpu,
    #[cfg(any(feature = "cuda", test))]
    Kernels,
    Stock,
}

/// The way of an op whose first argument this is.
pub fn select_path(tensor: &Tensor) -> KernelPath {
    #[cfg(test)]
    if let Some(way) = chosen::get() {
        return way;
    }
    match tensor.device() {
        Device::Cpu => KernelPath::Cpu,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => KernelPath::Kernels,
        _ => KernelPath::Stock,
    }
}

#[cfg(test)]
pub use chosen::with_path;

/// Another way than the device's own: the kernels then run in emulation.
#[cfg(test)]
mod chosen {
    use std::cell::Cell;

    use super::KernelPath;

    thread_local! { static CHOSEN: Cell<Option<KernelPath>> = const { Cell::new(None) } }

    pub fn get() -> Option<KernelPath> {
        CHOSEN.get()
    }

    /// Computes everything that `work` asks for on this thread by one way.
    pub fn with_path<T>(way: KernelPath, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<KernelPath>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CHOSEN.set(self.0);
            }
        }
        let _restore = Restore(CHOSEN.replace(Some(way)));
        work()
    }
}
