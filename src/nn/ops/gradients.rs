//! Gradients of weights outside candle's tape. candle sums each gradient in new memory. The fused layers
//! ([`super::fused`]) add theirs in place here, and [`backward`] returns them with the others.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, bail};

type GradientSums = HashMap<TensorId, (Tensor, Vec<f32>)>;

thread_local! { static SUMS: RefCell<Option<GradientSums>> = const { RefCell::new(None) } }

/// The gradients of `loss` for all variables that it depends on. Replaces [`Tensor::backward`].
///
/// # Errors
/// Those of candle.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    struct Restore(Option<GradientSums>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SUMS.replace(self.0.take());
        }
    }
    let _restore = Restore(SUMS.replace(Some(GradientSums::new())));
    let mut store = loss.backward()?;
    for (tensor, sums) in SUMS.take().unwrap_or_default().into_values() {
        let sums = Tensor::from_vec(sums, tensor.shape(), tensor.device())?;
        let sums = match store.remove(&tensor) {
            Some(own) => (own + sums)?,
            None => sums,
        };
        store.insert(&tensor, sums);
    }
    Ok(store)
}

/// The sum of a weight's gradient so far.
pub(super) struct GradientSum<'a> {
    weight: &'a Tensor,
    values: Option<Vec<f32>>,
}

impl<'a> GradientSum<'a> {
    pub fn of(weight: &'a Tensor) -> Self {
        Self { weight, values: None }
    }

    /// # Errors
    /// If the backward pass was not started by [`backward`].
    pub fn values(&mut self) -> Result<&mut [f32]> {
        if self.values.is_none() {
            let sum = SUMS.with_borrow_mut(|sums| match sums {
                Some(sums) => Ok(sums.remove(&self.weight.id())),
                None => bail!("gradients of fused layers need nn::ops::backward"),
            })?;
            let none = || vec![0.0; self.weight.elem_count()];
            self.values = Some(sum.map_or_else(none, |(_, sum)| sum));
        }
        Ok(self.values.as_deref_mut().unwrap_or_default())
    }

    /// Stores the sum, if the weight needs a gradient.
    pub fn store(self) {
        if let (Some(values), true) = (self.values, self.weight.track_op()) {
            SUMS.with_borrow_mut(|sums| {
                sums.as_mut().map(|sums| sums.insert(self.weight.id(), (self.weight.clone(), values)))
            });
        }
    }
}

/// Calls `add` with the gradient of a weight, if the weight needs one.
///
/// # Errors
/// As [`GradientSum::values`].
pub(super) fn add_to(weight: &Tensor, add: impl FnOnce(&mut [f32])) -> Result<()> {
    if weight.track_op() {
        let mut sum = GradientSum::of(weight);
        add(sum.values()?);
        sum.store();
    }
    Ok(())
}

/// Calls `work` with the address of a weight's gradient, if the weight needs one, and with whether the values are
/// uninitialized.
///
/// # Errors
/// As [`GradientSum::values`].
///
/// # Safety
/// `work` must stay within the values of the weight. It must write all of them if they are uninitialized, and
/// otherwise add to them.
pub(super) unsafe fn write_to(weight: &Tensor, work: impl FnOnce(*mut f32, bool)) -> Result<()> {
    if !weight.track_op() {
        return Ok(());
    }
    let count = weight.elem_count();
    let sum = SUMS.with_borrow_mut(|sums| match sums {
        Some(sums) => Ok(sums.remove(&weight.id())),
        None => bail!("gradients of fused layers need nn::ops::backward"),
    })?;
    let fresh = sum.is_none();
    let mut values = sum.map_or_else(|| Vec::with_capacity(count), |(_, sum)| sum);
    work(values.as_mut_ptr(), fresh);
    // SAFETY: the capacity suffices, and all values were either initialized before or written by `work`.
    unsafe { values.set_len(count) }
    GradientSum { weight, values: Some(values) }.store();
    Ok(())
}
