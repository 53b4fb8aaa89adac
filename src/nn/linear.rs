//! Affine map with an optional ReLU.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

pub use super::ops::Activation;
use super::{Mode, ops};

/// `y = activation(x · Wᵀ + b)`; weight `[out, in]`, bias `[out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Linear {
    /// Initial weights: Xavier normal, N(0, 2 / (in + out)); biases 0.
    pub fn load(input: usize, output: usize, activation: Activation, vb: VarBuilder) -> Result<Self> {
        let stdev = (2.0 / (input + output) as f64).sqrt();
        let weight = vb.get_with_hints((output, input), "weight", Init::Randn { mean: 0.0, stdev })?;
        let bias = vb.get_with_hints(output, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias, activation })
    }

    /// A map that shares its matrix with another layer, as the output layer does with the embedding.
    pub fn tied(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, activation: Activation::None }
    }

    /// Number of output values.
    pub(super) fn width(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    /// Weight and bias.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn affine(&self) -> ops::fused::Affine {
        ops::fused::Affine { weight: self.weight.clone(), bias: self.bias.clone() }
    }

    /// `x [.., in] -> [.., out]`
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        ops::linear(x, &self.weight, &self.bias, self.activation, mode.precision())
    }

    /// The layer as an output layer over `x [rows, in]`. Classes below `forbidden` have no probability.
    pub fn output<'a>(&'a self, x: &'a Tensor, forbidden: usize, mode: &Mode) -> ops::Output<'a> {
        let Self { weight, bias, .. } = self;
        ops::Output { x, weight, bias, forbidden, precision: mode.precision() }
    }
}
