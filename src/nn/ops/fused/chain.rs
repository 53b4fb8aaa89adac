//! Several sublayers in sequence as one op. The values between them stay out of candle's tape, which would add each
//! gradient to new zeros.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::super::cpu::{values, with_values};

/// A sublayer from residual stream to residual stream, `[rows, len, width]`. `memory` is what the decoder reads of the
/// source, `[rows, source, width]`; empty without one.
pub trait Sublayer: Send + Sync {
    fn forward(&self, x: &[f32], memory: &[f32]) -> Result<Vec<f32>>;

    /// The gradient of `x`, given that of the result. Adds the gradient of the memory to `dmemory`, and those of weights
    /// in `nn::ops::gradients`. Call it once after each [`Self::forward`].
    ///
    /// # Errors
    /// If there was no forward pass, or if the backward pass was not started by [`backward`](super::super::backward).
    fn backward(&self, x: &[f32], memory: &[f32], dy: &[f32], dmemory: &mut [f32]) -> Result<Vec<f32>>;
}

/// Applies all sublayers to `x`, in order.
pub fn chain(x: &Tensor, memory: Option<&Tensor>, sublayers: Vec<Box<dyn Sublayer>>) -> Result<Tensor> {
    let (x, chain) = (x.contiguous()?, Chain { sublayers, inputs: Mutex::new(None) });
    match memory {
        Some(memory) => x.apply_op2(&memory.contiguous()?, chain),
        None => x.apply_op1(chain),
    }
}

struct Chain {
    sublayers: Vec<Box<dyn Sublayer>>,
    /// The input of each sublayer except the first.
    inputs: Mutex<Option<Vec<Vec<f32>>>>,
}

impl Chain {
    fn forward(&self, x: &[f32], memory: &[f32]) -> Result<Vec<f32>> {
        let mut inputs: Vec<Vec<f32>> = Vec::with_capacity(self.sublayers.len());
        for sublayer in &self.sublayers {
            let y = sublayer.forward(inputs.last().map_or(x, Vec::as_slice), memory)?;
            inputs.push(y);
        }
        let Some(y) = inputs.pop() else { bail!("a chain has no sublayers") };
        *self.inputs.lock().unwrap_or_else(PoisonError::into_inner) = Some(inputs);
        Ok(y)
    }

    /// The gradients of `x` and of the memory.
    fn backward(&self, x: &[f32], memory: &[f32], dy: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let Some(mut inputs) = self.inputs.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradients of a chain were already computed")
        };
        let mut dmemory = vec![0f32; memory.len()];
        let mut dx: Option<Vec<f32>> = None;
        for sublayer in self.sublayers.iter().rev() {
            let input = inputs.pop();
            let (x, dy) = (input.as_deref().unwrap_or(x), dx.as_deref().unwrap_or(dy));
            dx = Some(sublayer.backward(x, memory, dy, &mut dmemory)?);
        }
        Ok((dx.unwrap_or_default(), dmemory))
    }
}

impl CustomOp1 for Chain {
    fn name(&self) -> &'static str {
        "sublayers"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.forward(values(x, layout)?, &[])?), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (dx, _) = with_values(x, |x| with_values(grad, |dy| self.backward(x, &[], dy)))???;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

impl CustomOp2 for Chain {
    fn name(&self) -> &'static str {
        "sublayers-with-memory"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        memory: &CpuStorage,
        memory_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(values(x, layout)?, values(memory, memory_layout)?)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        memory: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dmemory) = with_values(x, |x| {
            with_values(memory, |memory| with_values(grad, |dy| self.backward(x, memory, dy)))
        })????;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dmemory = match memory.track_op() {
            true => Some(Tensor::from_vec(dmemory, memory.shape(), memory.device())?),
            false => None,
        };
        Ok((Some(dx), dmemory))
    }
}
