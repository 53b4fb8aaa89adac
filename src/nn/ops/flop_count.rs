//! How much arithmetic was asked for: by this a rate of tokens can be held against what a device could do.

use std::cell::Cell;

use candle_core::{Result, Tensor};

thread_local! {
    static OPERATIONS: Cell<u64> = const { Cell::new(0) };
    static FORWARD_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Floating-point operations of all products with weights ([`linear`](super::linear)) that this thread has asked for
/// since it began, a multiply-add being two: as computed, padding included. Where there is to be a gradient of rows or
/// weight, the product for it is counted with the forward one. Attention's own products, for sentences some percent,
/// and products in eight bits are not counted.
pub fn operations() -> u64 {
    OPERATIONS.get()
}

/// Runs `work`, whose results are detached: no gradients are counted though its weights are trained.
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

/// Counts the products of so many rows with a weight that may be trained, `tracked` being whether the rows have a gradient.
pub(super) fn count_rows(rows: usize, tracked: bool, weight: &Tensor) -> Result<()> {
    let gradients = if FORWARD_ONLY.get() { 0 } else { u64::from(tracked) + u64::from(weight.track_op()) };
    OPERATIONS.set(OPERATIONS.get() + (1 + gradients) * 2 * (rows * weight.elem_count()) as u64);
    Ok(())
}

#[cfg(test)]
mod tests;
