use std::path::Path;

use candle_core::Device;

use super::*;
use crate::train::update::checkpoint::restore;

fn weights(values: &[f32]) -> (Var, [(String, Var); 1]) {
    let var = Var::from_slice(values, values.len(), &Device::Cpu).unwrap();
    (var.clone(), [("w".to_owned(), var)])
}

fn average(ema: &Ema) -> Vec<f32> {
    ema.tensors()["w"].to_vec1().unwrap()
}

#[test]
fn the_average_follows_the_weights_by_its_decay() {
    let (var, named) = weights(&[1.0, 8.0]);
    let mut ema = Ema::new(named, 0.75).unwrap();
    var.set(&candle_core::Tensor::new(&[5f32, 0.0], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(average(&ema), [1.0, 8.0]);
    ema.update().unwrap();
    assert_eq!(average(&ema), [2.0, 6.0]);
    ema.update().unwrap();
    assert_eq!(average(&ema), [2.75, 4.5]);
    assert_eq!(var.to_vec1::<f32>().unwrap(), [5.0, 0.0]);
}

#[test]
fn all_kernel_paths_give_the_same_average() {
    use crate::nn::device::testing::emulated;
    use crate::nn::device::{Argument, Grid, Training};
    use crate::nn::ops::with_path;
    let (start, now) = ([1f32, -8.0, 0.3], [5f32, 0.0, -0.7]);
    let moved = |path| {
        with_path(path, || {
            let (var, named) = weights(&start);
            let mut ema = Ema::new(named, 0.9).unwrap();
            var.set(&candle_core::Tensor::new(&now, &Device::Cpu).unwrap()).unwrap();
            ema.update().unwrap();
            average(&ema)
        })
    };
    let expected = moved(KernelPath::Cpu);
    let mut averages = start;
    let at = |values: *const f32| Argument::Address(values as u64);
    let arguments = [
        at(averages.as_mut_ptr()),
        at(now.as_ptr()),
        Argument::U32(3),
        0.9f32.into(),
        (0.1f64 as f32).into(),
    ];
    emulated::run(Training::Ema.into(), Grid::values(3), &arguments, false).unwrap();
    for found in [moved(KernelPath::Stock), averages.to_vec()] {
        assert!(
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6),
            "{found:?}, not {expected:?}"
        );
    }
}

#[test]
fn a_restored_average_continues_as_if_it_had_not_stopped() {
    let (_, named) = weights(&[1.0, 2.0]);
    let mut resumed = Ema::new(named, 0.9).unwrap();
    let (_, other) = weights(&[3.0, 7.0]);
    let saved = Ema::new(other, 0.9).unwrap().tensors();
    restore(&resumed.vars(), &saved, Path::new("ema.safetensors")).unwrap();
    assert_eq!(average(&resumed), [3.0, 7.0]);
    resumed.update().unwrap();
    assert_eq!(average(&resumed), [0.9f32 * 3.0 + 0.1f64 as f32, 0.9f32 * 7.0 + 0.1f64 as f32 * 2.0]);
}
