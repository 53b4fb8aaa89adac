//! The update on devices other than the CPU: on a GPU in place with one kernel for each parameter, elsewhere with
//! candle's operations.

use candle_core::{Tensor, Var};

use super::Coefficients;
use crate::Result;
use crate::nn::ops;

/// Everything that the host reads from a GPU in an update: Σ g² over all `gradients`, and the values of `scalars`.
/// The host waits only here.
pub(super) fn read(gradients: &[Tensor], scalars: &[Tensor]) -> Result<(f64, Vec<f32>)> {
    let squares = gradients.iter().map(ops::squares).collect::<candle_core::Result<Vec<_>>>()?;
    let scalars = scalars.iter().map(|s| s.reshape(1)).collect::<candle_core::Result<Vec<_>>>()?;
    let all: Vec<&Tensor> = scalars.iter().chain(&squares).collect();
    let mut values: Vec<f32> = Tensor::cat(&all, 0)?.to_vec1()?;
    let squares = values.split_off(scalars.len());
    Ok((squares.into_iter().map(f64::from).sum(), values))
}

/// m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  p ← (1−ηλ)p − η·m̂ / (√v̂ + ε)
pub(super) fn update(
    var: &Var,
    gradient: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    c: Coefficients,
) -> Result<()> {
    #[cfg(feature = "cuda")]
    if var.device().is_cuda() {
        use crate::nn::device::{Grid, Training, cuda::tensors::launch_in_place};
        let tensors = [var.as_tensor(), first, second, gradient];
        let grid = Grid::values(var.elem_count());
        return Ok(launch_in_place(Training::AdamW.into(), grid, &tensors, &arguments(var.elem_count(), c))?);
    }
    let g = gradient.affine(f64::from(c.gradient), 0.0)?;
    let m = (first.affine(f64::from(c.beta1), 0.0)? + g.affine(f64::from(1.0 - c.beta1), 0.0)?)?;
    let v = (second.affine(f64::from(c.beta2), 0.0)? + g.sqr()?.affine(f64::from(1.0 - c.beta2), 0.0)?)?;
    let denominator = v.sqrt()?.affine(f64::from(c.second_scale), f64::from(c.eps))?;
    let step = (&m / denominator)?.affine(f64::from(c.rate), 0.0)?;
    let kept = var.as_detached_tensor().affine(f64::from(c.keep), 0.0)?;
    var.set(&(kept - step)?)?;
    (*first, *second) = (m, v);
    Ok(())
}

/// The arguments of the kernel after parameter, moments and gradient.
#[cfg(any(feature = "cuda", test))]
fn arguments(count: usize, c: Coefficients) -> Vec<crate::nn::device::Argument> {
    let Coefficients { beta1, beta2, eps, rate, second_scale, gradient, keep } = c;
    let reals = [beta1, beta2, eps, rate, second_scale, gradient, keep];
    std::iter::once((count as u32).into()).chain(reals.map(Into::into)).collect()
}

#[cfg(test)]
mod tests;
