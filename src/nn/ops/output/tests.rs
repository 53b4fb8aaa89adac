use candle_core::{Device, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::nn::ops::{KernelPath, with_path};

const FORBIDDEN: usize = 3;
const WIDTH: usize = 8;

fn random(shape: &[usize], seed: u64) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// A layer with more rows and classes than one chunk.
fn layer() -> [Var; 3] {
    let (rows, classes) = (ROWS + 7, 2 * COLUMNS + 40);
    [random(&[rows, WIDTH], 1), random(&[classes, WIDTH], 2), random(&[classes], 3)]
}

fn output<'a>([x, weight, bias]: &'a [Var; 3]) -> Output<'a> {
    Output { x, weight, bias, forbidden: FORBIDDEN, precision: Precision::F32 }
}

/// The loss and twice its gradients, on one path.
fn loss_and_gradients(
    path: KernelPath,
    layer: &[Var; 3],
    loss: impl Fn(&Output) -> Tensor,
) -> (f32, Vec<Vec<f32>>) {
    with_path(path, || {
        let loss = loss(&output(layer));
        let gradients = (&loss * 2.0).unwrap().backward().unwrap();
        let flat = |var: &Var| gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (loss.to_scalar().unwrap(), layer.iter().map(flat).collect())
    })
}

fn assert_same_on_both_paths(layer: &[Var; 3], loss: impl Fn(&Output) -> Tensor) {
    let (fused, plain) = (
        loss_and_gradients(KernelPath::Cpu, layer, &loss),
        loss_and_gradients(KernelPath::Stock, layer, &loss),
    );
    assert!((fused.0 - plain.0).abs() < 1e-5 * plain.0.abs(), "{}, not {}", fused.0, plain.0);
    for (fused, plain) in fused.1.iter().zip(&plain.1) {
        let size = plain.iter().map(|v| v * v).sum::<f32>().sqrt();
        let off = fused.iter().zip(plain).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        assert!(size > 0.0 && off < 1e-5 * size, "off by {off} of {size}");
    }
}

#[test]
fn the_cross_entropy_and_its_gradients_equal_the_stock_ops() {
    let layer = layer();
    let (rows, classes) = (layer[0].dim(0).unwrap(), layer[1].dim(0).unwrap());
    let gold: Arc<[u32]> =
        (0..rows).map(|row| (FORBIDDEN + row * 7 % (classes - FORBIDDEN)) as u32).collect();
    for smoothing in [0.0, 0.1] {
        assert_same_on_both_paths(&layer, |output| output.cross_entropy(&gold, smoothing).unwrap());
    }
    let unfit: Arc<[u32]> = vec![0; rows].into();
    assert!(output(&layer).cross_entropy(&unfit, 0.0).is_err(), "a forbidden class");
}

#[test]
fn a_loss_of_log_probabilities_and_its_gradients_equal_the_stock_ops() {
    let layer = layer();
    let (rows, classes) = (layer[0].dim(0).unwrap(), layer[1].dim(0).unwrap());
    let of_row = |row: usize| {
        (0..row % 4).map(move |i| (FORBIDDEN + (row * 31 + i * 400) % (classes - FORBIDDEN)) as u32).collect()
    };
    let chosen = Arc::new(Classes::new((0..rows).map(of_row).collect::<Vec<Vec<u32>>>()));
    let weigh = |log_probs: &[f32]| {
        let weights: Vec<f32> = (0..log_probs.len()).map(|i| (i % 5) as f32 / 1000.0).collect();
        let value = log_probs.iter().zip(&weights).map(|(&s, &w)| -f64::from(s) * f64::from(w)).sum();
        Ok::<_, candle_core::Error>(WeightedLoss { value, weights })
    };
    assert_same_on_both_paths(&layer, |output| output.loss_of(&chosen, weigh).unwrap());
    let by_path = |path| with_path(path, || output(&layer).log_probs_of(&chosen).unwrap());
    let (fused, plain) = (by_path(KernelPath::Cpu), by_path(KernelPath::Stock));
    assert_eq!(fused.len(), chosen.len());
    assert!(fused.iter().zip(plain).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn nan_scores_give_a_nan_loss() {
    let layer = layer();
    layer[2].set(&layer[2].affine(0.0, f64::NAN).unwrap()).unwrap();
    let gold = vec![9; layer[0].dim(0).unwrap()].into();
    assert!(output(&layer).cross_entropy(&gold, 0.1).unwrap().to_scalar::<f32>().unwrap().is_nan());
}
