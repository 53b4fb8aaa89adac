//! Several sublayers in sequence as one op. The values between them stay out of candle's tape, which would add each
//! gradient to new zeros.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::super::cpu::{values, with_values};

/// A sublayer from residual stream to residual stream, `[rows, len, width]`.
pub trait Sublayer: Send + Sync {
    fn forward(&self, x: &[f32]) -> Result<Vec<f32>>;

    /// The gradient of `x`, given that of the result. Adds the gradients of weights in `nn::ops::gradients`. Call it
    /// once after each [`Self::forward`].
    ///
    /// # Errors
    /// If there was no forward pass, or if the backward pass was not started by [`backward`](super::super::backward).
    fn backward(&self, x: &[f32], dy: &[f32]) -> Result<Vec<f32>>;
}

/// Applies all sublayers to `x`, in order.
pub fn chain(x: &Tensor, sublayers: Vec<Box<dyn Sublayer>>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Chain { sublayers, inputs: Mutex::new(None) })
}

struct Chain {
    sublayers: Vec<Box<dyn Sublayer>>,
    /// The input of each sublayer except the first.
    inputs: Mutex<Option<Vec<Vec<f32>>>>,
}

impl CustomOp1 for Chain {
    fn name(&self) -> &'static str {
        "sublayers"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut inputs: Vec<Vec<f32>> = Vec::with_capacity(self.sublayers.len());
        for sublayer in &self.sublayers {
            let y = match inputs.last() {
                Some(x) => sublayer.forward(x)?,
                None => sublayer.forward(values(x, layout)?)?,
            };
            inputs.push(y);
        }
        let Some(y) = inputs.pop() else { bail!("a chain has no sublayers") };
        *self.inputs.lock().unwrap_or_else(PoisonError::into_inner) = Some(inputs);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(mut inputs) = self.inputs.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradients of a chain were already computed")
        };
        let mut grads: Option<Vec<f32>> = None;
        for sublayer in self.sublayers.iter().rev() {
            let read = inputs.pop();
            let backward = |dy: &[f32]| match &read {
                Some(x) => sublayer.backward(x, dy),
                None => with_values(x, |x| sublayer.backward(x, dy))?,
            };
            grads = Some(match &grads {
                Some(dy) => backward(dy)?,
                None => with_values(grad, backward)??,
            });
        }
        grads.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()
    }
}
