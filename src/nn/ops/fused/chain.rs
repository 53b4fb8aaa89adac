//! Sublayers one after the other as one op: what flows between them stays out of candle's tape, which would add each gradient to fresh
//! zeros.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::super::cpu::{values, with_values};

/// A sublayer that reads and gives the residual stream, `[rows, len, width]`.
pub trait Sublayer: Send + Sync {
    fn forward(&self, x: &[f32]) -> Result<Vec<f32>>;

    /// The gradient of `x`, given that of the answer; those of the weights go where `gradients` keeps them. Once after each
    /// [`Self::forward`].
    ///
    /// # Errors
    /// It was not run before, or `gradients` has no place.
    fn backward(&self, x: &[f32], dy: &[f32]) -> Result<Vec<f32>>;
}

/// `x` through all sublayers.
pub fn chain(x: &Tensor, sublayers: Vec<Box<dyn Sublayer>>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Chain { sublayers, between: Mutex::new(None) })
}

struct Chain {
    sublayers: Vec<Box<dyn Sublayer>>,
    /// What each sublayer but the first has read.
    between: Mutex<Option<Vec<Vec<f32>>>>,
}

impl CustomOp1 for Chain {
    fn name(&self) -> &'static str {
        "sublayers"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut between: Vec<Vec<f32>> = Vec::with_capacity(self.sublayers.len());
        for sublayer in &self.sublayers {
            let y = match between.last() {
                Some(x) => sublayer.forward(x)?,
                None => sublayer.forward(values(x, layout)?)?,
            };
            between.push(y);
        }
        let Some(y) = between.pop() else { bail!("a chain without sublayers") };
        *self.between.lock().unwrap_or_else(PoisonError::into_inner) = Some(between);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(mut between) = self.between.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradients of a chain can be taken once")
        };
        let mut slopes: Option<Vec<f32>> = None;
        for sublayer in self.sublayers.iter().rev() {
            let read = between.pop();
            let backward = |dy: &[f32]| match &read {
                Some(x) => sublayer.backward(x, dy),
                None => with_values(x, |x| sublayer.backward(x, dy))?,
            };
            slopes = Some(match &slopes {
                Some(dy) => backward(dy)?,
                None => with_values(grad, backward)??,
            });
        }
        slopes.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()
    }
}
