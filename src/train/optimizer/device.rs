//! The update where the CPU does not compute: in place by one kernel for each parameter on a GPU, by stock ops
//! elsewhere.

use candle_core::{Tensor, Var};

use super::Coefficients;
use crate::Result;
use crate::nn::ops;

/// What the host reads of a GPU in one update: Σ g² over all `gradients`, and the values of `scalars`. It is
/// the one time that the host waits.
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

/// What the kernel takes behind parameter, moments and gradient.
#[cfg(any(feature = "cuda", test))]
fn arguments(count: usize, c: Coefficients) -> Vec<crate::nn::device::Argument> {
    let Coefficients { beta1, beta2, eps, rate, second_scale, gradient, keep } = c;
    let reals = [beta1, beta2, eps, rate, second_scale, gradient, keep];
    std::iter::once((count as u32).into()).chain(reals.map(Into::into)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, Optimizer};
    use super::*;
    use crate::nn::device::{Argument, Grid, Training, emulated};
    use crate::nn::ops::{Way, by};
    use candle_core::Device;

    const COUNT: usize = 2500;

    fn wave(scale: f32, phase: usize) -> Vec<f32> {
        (0..COUNT).map(|i| scale * ((i * 7 + phase) as f32).sin()).collect()
    }

    fn close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 2e-6 * want.abs().max(1.0), "{got}, not {want}");
        }
    }

    /// Parameter and moments after two updates by one way.
    fn updated(way: Way) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        by(way, || {
            let var = Var::from_vec(wave(1.0, 0), (50, 50), &Device::Cpu).unwrap();
            let mut optimizer = Optimizer::new([("w".into(), var.clone())], AdamW::default()).unwrap();
            for phase in [1, 2] {
                let weights = Tensor::from_vec(wave(3.0, phase), (50, 50), &Device::Cpu).unwrap();
                let loss = (var.as_tensor() * weights).unwrap().sum_all().unwrap();
                let read = [loss.detach(), (loss.detach() * 2.0).unwrap()];
                let gradients = optimizer.gradients(&loss.backward().unwrap()).unwrap();
                let (outcome, values) = optimizer.apply(&gradients, 0.5, 1e-2, &read).unwrap();
                assert!(outcome.applied && values[1] == 2.0 * values[0]);
            }
            let state = optimizer.state().unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (flat(&var), flat(&state["first.w"]), flat(&state["second.w"]))
        })
    }

    #[test]
    fn every_way_moves_weights_and_moments_alike() {
        let (weights, first, second) = updated(Way::Cpu);
        for way in [Way::Stock, Way::Kernels] {
            let (w, m, v) = updated(way);
            close(&w, &weights);
            close(&m, &first);
            close(&v, &second);
        }
    }

    #[test]
    fn the_kernel_does_what_the_cpu_does() {
        let (mut p, mut m, mut v, g) = (wave(1.0, 0), wave(0.1, 1), vec![0.2; COUNT], wave(3.0, 2));
        let c = Coefficients {
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            rate: 1e-2,
            second_scale: 1.3,
            gradient: 0.7,
            keep: 0.999,
        };
        let tensor = |values: &[f32]| Tensor::from_slice(values, COUNT, &Device::Cpu).unwrap();
        let (var, mut first, mut second) = (Var::from_tensor(&tensor(&p)).unwrap(), m.clone(), v.clone());
        super::super::host::update(&var, &tensor(&g), &mut first, &mut second, c).unwrap();

        let places = [p.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr(), g.as_ptr().cast_mut()];
        let mut all: Vec<Argument> = places.map(|at| Argument::Address(at as u64)).to_vec();
        all.extend(arguments(COUNT, c));
        emulated::run(Training::AdamW.into(), Grid::values(COUNT), &all, false).unwrap();
        close(&p, &var.to_vec1::<f32>().unwrap());
        close(&m, &first);
        close(&v, &second);
    }
}
