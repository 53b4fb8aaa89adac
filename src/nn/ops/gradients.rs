//! Gradients of weights that do not go through candle's tape. candle adds up each gradient in fresh memory; the fused layers
//! ([`super::fused`]) add theirs in place, here, and [`backward`] hands them out with the others.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, bail};

type Sums = HashMap<TensorId, (Tensor, Vec<f32>)>;

thread_local! { static SUMS: RefCell<Option<Sums>> = const { RefCell::new(None) } }

/// The gradients of `loss` for all variables that it depends on. To be used in place of [`Tensor::backward`].
///
/// # Errors
/// What candle answers.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    struct Restore(Option<Sums>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SUMS.replace(self.0.take());
        }
    }
    let _restore = Restore(SUMS.replace(Some(Sums::new())));
    let mut store = loss.backward()?;
    for (tensor, sums) in SUMS.take().unwrap_or_default().into_values() {
        let sums = Tensor::from_vec(sums, tensor.shape(), tensor.device())?;
        let sums = match store.remove(&tensor) {
            Some(known) => (known + sums)?,
            None => sums,
        };
        store.insert(&tensor, sums);
    }
    Ok(store)
}

/// Lets `add` add to the gradient of a weight, if it is to have one.
///
/// # Errors
/// The backward pass is not [`backward`]'s.
pub(super) fn add_to(weight: &Tensor, add: impl FnOnce(&mut [f32])) -> Result<()> {
    if !weight.track_op() {
        return Ok(());
    }
    let known = SUMS.with_borrow_mut(|sums| {
        let Some(sums) = sums else { bail!("gradients of fused layers need nn::ops::backward") };
        Ok(sums.remove(&weight.id()).map_or_else(|| vec![0.0; weight.elem_count()], |(_, known)| known))
    });
    // Not borrowed meanwhile: a thread that waits for others may start on another task.
    let mut known = known?;
    add(&mut known);
    SUMS.with_borrow_mut(|sums| {
        if let Some(sums) = sums {
            sums.insert(weight.id(), (weight.clone(), known));
        }
    });
    Ok(())
}
