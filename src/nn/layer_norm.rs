//! Layer normalization with gain and bias (Ba et al. 2016).

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::ops;

#[derive(Clone, Debug)]
pub struct LayerNorm {
    gain: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    pub fn load(width: usize, vb: VarBuilder) -> Result<Self> {
        let gain = vb.get_with_hints(width, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(width, "bias", Init::Const(0.0))?;
        Ok(Self { gain, bias, eps: 1e-5 })
    }

    /// Gain, bias and ε.
    pub(super) fn parts(&self) -> (&Tensor, &Tensor, f32) {
        (&self.gain, &self.bias, self.eps)
    }

    /// `[.., width] -> [.., width]`, row by row.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.gain, &self.bias, self.eps)
    }
}
