//! Counts floating-point operations, to compare a training rate with the peak of a device.

use std::cell::Cell;

use candle_core::{Result, Tensor};

thread_local! {
    static OPERATIONS: Cell<u64> = const { Cell::new(0) };
    static FORWARD_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Floating-point operations of all products with weights ([`linear`](super::linear)) that this thread has computed so
/// far, padding included. A multiply-add counts as two. The products for gradients are counted together with the
/// forward product. Products inside attention, a few percent for sentences, and 8-bit products are not counted.
pub fn operations() -> u64 {
    OPERATIONS.get()
}

/// Runs `work` without counting gradients, for results that are detached although the weights are trained.
pub fn without_gradients<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORWARD_ONLY.set(self.0);
        }
    }
    let _restore = Restore(FORWARD_ONLY.replace(true));
    work()
}

/// Counts `x [.., in] · weight [out, in]ᵀ`.
pub(super) fn count(x: &Tensor, weight: &Tensor) -> Result<()> {
    let (out, _) = weight.dims2()?;
    let gradients =
        if FORWARD_ONLY.get() { 0 } else { u64::from(x.track_op()) + u64::from(weight.track_op()) };
    let products = 1 + gradients;
    OPERATIONS.set(OPERATIONS.get() + products * 2 * (x.elem_count() * out) as u64);
    Ok(())
}

/// Counts the products of `rows` rows with `weight`; `tracked` is whether the rows need a gradient.
pub(super) fn count_rows(rows: usize, tracked: bool, weight: &Tensor) -> Result<()> {
    let gradients = if FORWARD_ONLY.get() { 0 } else { u64::from(tracked) + u64::from(weight.track_op()) };
    OPERATIONS.set(OPERATIONS.get() + (1 + gradients) * 2 * (rows * weight.elem_count()) as u64);
    Ok(())
}

#[cfg(test)]
mod tests;
