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

/// What has been added up of a weight's gradient so far, to add more to it.
pub(super) struct Sum<'a> {
    weight: &'a Tensor,
    values: Option<Vec<f32>>,
}

impl<'a> Sum<'a> {
    pub fn of(weight: &'a Tensor) -> Self {
        Self { weight, values: None }
    }

    /// # Errors
    /// The backward pass is not [`backward`]'s.
    pub fn values(&mut self) -> Result<&mut [f32]> {
        if self.values.is_none() {
            let known = SUMS.with_borrow_mut(|sums| match sums {
                Some(sums) => Ok(sums.remove(&self.weight.id())),
                None => bail!("gradients of fused layers need nn::ops::backward"),
            })?;
            let none = || vec![0.0; self.weight.elem_count()];
            self.values = Some(known.map_or_else(none, |(_, known)| known));
        }
        Ok(self.values.as_deref_mut().unwrap_or_default())
    }

    /// Keeps what has been added, if the weight is to have a gradient.
    pub fn give_back(self) {
        if let (Some(values), true) = (self.values, self.weight.track_op()) {
            SUMS.with_borrow_mut(|sums| {
                sums.as_mut().map(|sums| sums.insert(self.weight.id(), (self.weight.clone(), values)))
            });
        }
    }
}

/// Lets `add` add to the gradient of a weight, if it is to have one.
///
/// # Errors
/// As [`Sum::values`].
pub(super) fn add_to(weight: &Tensor, add: impl FnOnce(&mut [f32])) -> Result<()> {
    if weight.track_op() {
        let mut sum = Sum::of(weight);
        add(sum.values()?);
        sum.give_back();
    }
    Ok(())
}

/// Lets `work` add to the gradient of a weight, if it is to have one, or write it where there is none yet: it is given the place of
/// the values, and whether it is to write them all.
///
/// # Errors
/// As [`Sum::values`].
///
/// # Safety
/// `work` does so, and stays within the values of the weight.
pub(super) unsafe fn write_to(weight: &Tensor, work: impl FnOnce(*mut f32, bool)) -> Result<()> {
    if !weight.track_op() {
        return Ok(());
    }
    let count = weight.elem_count();
    let known = SUMS.with_borrow_mut(|sums| match sums {
        Some(sums) => Ok(sums.remove(&weight.id())),
        None => bail!("gradients of fused layers need nn::ops::backward"),
    })?;
    let fresh = known.is_none();
    let mut values = known.map_or_else(|| Vec::with_capacity(count), |(_, known)| known);
    work(values.as_mut_ptr(), fresh);
    // SAFETY: there is room for so many, and they were there before or have been written now.
    unsafe { values.set_len(count) }
    Sum { weight, values: Some(values) }.give_back();
    Ok(())
}
