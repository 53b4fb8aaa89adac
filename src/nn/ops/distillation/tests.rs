use candle_core::{Device, Var};
use proptest::prelude::{ProptestConfig, proptest};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const FORBIDDEN: usize = 5;

fn matrix(rows: usize, width: usize, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..rows * width).map(|_| rng.random_range(-3.0..3.0)).collect();
    Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
}

fn gradient(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> (f32, Vec<f32>) {
    let var = Var::from_tensor(at).unwrap();
    let loss = f(var.as_tensor());
    let gradients = (&loss * 3.0).unwrap().backward().unwrap();
    let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (loss.to_scalar().unwrap(), gradient)
}

/// Central differences of `3 · f` in every value of `at`.
fn differences(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Vec<f32> {
    const STEP: f32 = 2e-2;
    let values: Vec<f32> = at.flatten_all().unwrap().to_vec1().unwrap();
    let moved = |i: usize, by: f32| {
        let mut values = values.clone();
        values[i] += by;
        let tensor = Tensor::from_vec(values, at.shape(), &Device::Cpu).unwrap();
        3.0 * f(&tensor).to_scalar::<f32>().unwrap()
    };
    (0..values.len()).map(|i| (moved(i, STEP) - moved(i, -STEP)) / (2.0 * STEP)).collect()
}

fn assert_close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < tolerance, "at {i}: {got}, not {want}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_kernel_equals_the_stock_ops(
        rows in 1usize..5, classes in 6usize..70, seed: u64, temperature in 0.3f32..3.0,
    ) {
        let (student, teacher) = (matrix(rows, classes, seed), matrix(rows, classes, seed ^ 1));
        let (loss, fused) =
            gradient(&student, |s| divergence(s, &teacher, temperature, FORBIDDEN).unwrap());
        let (plain_loss, stock) =
            gradient(&student, |s| stock(s, &teacher, temperature, FORBIDDEN).unwrap());
        assert_close(&[loss], &[plain_loss], 2e-5 * plain_loss.abs().max(1.0));
        assert_close(&fused, &stock, 2e-5);
    }
}

#[test]
fn the_gradient_of_the_divergence_matches_finite_differences() {
    let (student, teacher) = (matrix(3, 17, 1), matrix(3, 17, 2));
    for temperature in [0.5, 1.0] {
        let f = |s: &Tensor| divergence(s, &teacher, temperature, FORBIDDEN).unwrap();
        let (_, gradient) = gradient(&student, f);
        assert_close(&gradient, &differences(&student, f), 2e-3);
        for row in gradient.chunks(17) {
            assert!(row[..FORBIDDEN].iter().all(|&g| g == 0.0), "{row:?}");
        }
    }
}

#[test]
fn divergence_of_two_classes_follows_the_definition() {
    let logits = |p: f32| Tensor::new(&[[99.0, p.ln(), (1.0 - p).ln()]], &Device::Cpu).unwrap();
    // Squaring (temperature 1/2) makes 2:1 into 4:1.
    let loss = divergence(&logits(0.5), &logits(2.0 / 3.0), 0.5, 1).unwrap().to_scalar::<f32>().unwrap();
    let want = 0.8f32 * (0.8f32 / 0.5).ln() + 0.2 * (0.2f32 / 0.5).ln();
    assert!((loss - want).abs() < 1e-6, "{loss}, not {want}");
}

#[test]
fn equal_distributions_have_no_divergence() {
    let logits = matrix(4, 50, 3);
    let (loss, gradient) = gradient(&logits, |s| divergence(s, &logits, 1.0, FORBIDDEN).unwrap());
    assert!(loss.abs() < 1e-6, "{loss}");
    assert_close(&gradient, &[0.0; 200], 1e-7);
}

#[test]
fn the_teacher_gets_no_gradient() {
    let (student, teacher) =
        (Var::from_tensor(&matrix(2, 9, 1)).unwrap(), Var::from_tensor(&matrix(2, 9, 2)).unwrap());
    let kl = divergence(&student, &teacher, 0.5, FORBIDDEN).unwrap();
    let l2 = distance(&student, &teacher).unwrap();
    let stock = stock(&student, &teacher, 0.5, FORBIDDEN).unwrap();
    for loss in [kl, l2, stock] {
        let gradients = loss.backward().unwrap();
        assert!(gradients.get(&student).is_some() && gradients.get(&teacher).is_none());
    }
}

#[test]
fn the_gradient_of_the_distance_matches_finite_differences() {
    let (student, teacher) = (matrix(3, 7, 5), matrix(3, 7, 6));
    let f = |s: &Tensor| distance(s, &teacher).unwrap();
    let (loss, gradient) = gradient(&student, f);
    assert_close(&gradient, &differences(&student, f), 2e-3);
    let norm = (&student - &teacher).unwrap().sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
    let want: f32 = norm.mean_all().unwrap().to_scalar().unwrap();
    assert!((loss - want).abs() < 2e-4, "{loss}, not {want}");
}

#[test]
fn equal_states_have_distance_zero_and_a_gradient_of_zero() {
    let states = matrix(3, 7, 5);
    let (loss, gradient) = gradient(&states, |s| distance(s, &states).unwrap());
    assert_eq!((loss, gradient), (0.0, vec![0.0; 21]));
}

#[test]
fn inconsistent_shapes_are_an_error() {
    let (a, b) = (matrix(2, 9, 1), matrix(3, 9, 2));
    assert!(divergence(&a, &b, 0.5, FORBIDDEN).is_err());
    assert!(divergence(&a, &a, 0.0, FORBIDDEN).is_err());
    assert!(divergence(&a, &a, 0.5, 9).is_err());
}
