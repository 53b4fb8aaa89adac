use candle_core::{Device, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::nn::ops::with_path;

const FORBIDDEN: usize = 3;

fn given() -> (Tensor, Arc<Classes>, Arc<[f32]>) {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let logits: Vec<f32> = (0..4 * 21).map(|_| rng.random_range(-3.0..3.0)).collect();
    let classes = Classes::new([vec![3, 9, 20], vec![], vec![7], vec![5, 6, 5]]);
    let weights = [0.5, 0.25, 0.25, 1.0, 0.2, 0.3, 0.1].as_slice().into();
    (Tensor::from_vec(logits, (4, 21), &Device::Cpu).unwrap(), Arc::new(classes), weights)
}

fn loss(logits: &Tensor) -> Tensor {
    let (_, classes, weights) = given();
    soft_cross_entropy(logits, &classes, &weights, 3.0, FORBIDDEN).unwrap()
}

fn gradient(path: KernelPath) -> (f32, Vec<f32>) {
    let var = Var::from_tensor(&given().0).unwrap();
    with_path(path, || {
        let loss = loss(var.as_tensor());
        let gradients = (&loss * 2.0).unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (loss.to_scalar().unwrap(), gradient)
    })
}

#[test]
fn the_kernel_equals_the_stock_ops_and_finite_differences() {
    let ((fused, fast), (plain, stock)) = (gradient(KernelPath::Cpu), gradient(KernelPath::Stock));
    assert!((fused - plain).abs() < 1e-6, "{fused}, not {plain}");
    let values: Vec<f32> = given().0.flatten_all().unwrap().to_vec1().unwrap();
    for (i, (&got, want)) in fast.iter().zip(stock).enumerate() {
        assert!((got - want).abs() < 1e-6, "at {i}: {got}, not {want}");
        let moved = |by: f32| {
            let mut values = values.clone();
            values[i] += by;
            let logits = Tensor::from_vec(values, (4, 21), &Device::Cpu).unwrap();
            2.0 * loss(&logits).to_scalar::<f32>().unwrap()
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((got - slope).abs() < 2e-3, "at {i}: {got}, slope {slope}");
    }
    for row in fast.chunks(21) {
        assert_eq!(row[..FORBIDDEN], [0.0; FORBIDDEN]);
    }
    assert_eq!(fast[21..42], [0.0; 21], "a row without classes");
}

#[test]
fn log_probabilities_are_over_the_allowed_classes() {
    let (logits, classes, _) = given();
    let chosen = |path| with_path(path, || log_probs_of(&logits, &classes, FORBIDDEN).unwrap());
    let (fused, plain) = (chosen(KernelPath::Cpu), chosen(KernelPath::Stock));
    assert_eq!(fused.len(), 7);
    assert!(fused.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-5), "{fused:?} {plain:?}");
    let all = Classes::new([(3..21).collect::<Vec<u32>>(), vec![], vec![], vec![]]);
    let sum: f32 = log_probs_of(&logits, &all, FORBIDDEN).unwrap().iter().map(|v| v.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn inconsistent_shapes_are_an_error() {
    let (logits, classes, weights) = given();
    let refused = |classes: Classes, weights: &Arc<[f32]>| {
        soft_cross_entropy(&logits, &Arc::new(classes), weights, 1.0, FORBIDDEN).is_err()
    };
    assert!(refused(Classes::new([[3u32], [3], [3]]), &[0.0; 3].as_slice().into()));
    assert!(refused(Classes::new([[3u32], [3], [3], [2]]), &[0.0; 4].as_slice().into()));
    assert!(refused(Classes::new([[3u32], [3], [3], [21]]), &[0.0; 4].as_slice().into()));
    assert!(refused(classes.as_ref().clone(), &weights[1..].into()));
}
