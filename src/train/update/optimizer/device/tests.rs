use super::super::{AdamW, Optimizer};
use super::*;
use crate::nn::device::testing::emulated;
use crate::nn::device::{Argument, Grid, Training};
use crate::nn::ops::{KernelPath, with_path};
use candle_core::Device;

const COUNT: usize = 2500;

fn wave(scale: f32, phase: usize) -> Vec<f32> {
    (0..COUNT).map(|i| scale * ((i * 7 + phase) as f32).sin()).collect()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{found}, not {expected}");
    }
}

/// Parameter and moments after two updates on one kernel path.
fn updated(path: KernelPath) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    with_path(path, || {
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
fn all_kernel_paths_update_weights_and_moments_equally() {
    let (weights, first, second) = updated(KernelPath::Cpu);
    for path in [KernelPath::Stock, KernelPath::Kernels] {
        let (w, m, v) = updated(path);
        close(&w, &weights);
        close(&m, &first);
        close(&v, &second);
    }
}

#[test]
fn the_kernel_computes_what_the_cpu_computes() {
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
