//! Compares every fused op with its composition in stock ops, with finite differences, and each row alone with the same
//! row in a batch.

mod chance;
mod definition;
mod finite_differences;
mod rows;

use std::sync::Arc;

use candle_core::{Device, Result, Shape, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{KernelPath, with_path};

/// Seeded values in -1..1.
fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("f32 values")
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    flat(tensor).into_iter().map(f32::to_bits).collect()
}

fn lengths(lengths: &[usize]) -> Arc<[usize]> {
    lengths.into()
}

/// Checks for equal shapes, and for values that differ by at most `tolerance`, relative to values above 1.
fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    for (i, (got, want)) in flat(got).into_iter().zip(flat(want)).enumerate() {
        let off = (got - want).abs();
        assert!(off <= tolerance * want.abs().max(1.0), "{what} at {i}: {got}, not {want}");
    }
}

/// The result of `f`, and the gradient of a fixed random weighting of it for every input.
fn with_gradients(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).expect("a variable")).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors).expect("the op");
    let loss = (&out * weighting(&out)).and_then(|t| t.sum_all()).expect("a loss");
    let grads = loss.backward().expect("a backward pass");
    let grads = vars.iter().map(|v| grads.get(v).expect("a gradient for every input").clone());
    (out, grads.collect())
}

/// Weights of the results in the loss, all different.
fn weighting(out: &Tensor) -> Tensor {
    random(out.shape(), 99)
}

/// Checks that all paths of an op equal its composition in stock ops, forward and backward.
fn assert_same(
    what: &str,
    inputs: &[Tensor],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (want, want_grads) = with_gradients(plain, inputs);
    for path in [KernelPath::Cpu, KernelPath::Kernels, KernelPath::Stock] {
        let (got, got_grads) = with_gradients(|t| with_path(path, || fused(t)), inputs);
        assert_close(&format!("{what}, {path:?}"), &got, &want, 2e-5);
        for (i, (got, want)) in got_grads.iter().zip(&want_grads).enumerate() {
            assert_close(&format!("{what}, {path:?}, gradient of input {i}"), got, want, 5e-5);
        }
    }
}
