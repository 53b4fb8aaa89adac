use super::*;

const PLAIN: AdamW =
    AdamW { betas: (0.9, 0.98), eps: 1e-8, weight_decay: 0.0, clip: 0.0, max_skips_in_a_row: 3 };

fn var(values: &[f32], shape: &[usize]) -> Var {
    Var::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// The gradient of Σ wᵢ·xᵢ, which equals the given numbers exactly.
fn gradient_of(pairs: &[(&Var, &[f32])]) -> GradStore {
    let mut loss = Tensor::new(0f32, &Device::Cpu).unwrap();
    for (var, numbers) in pairs {
        let weights = Tensor::from_slice(numbers, var.shape(), &Device::Cpu).unwrap();
        loss = (loss + (var.as_tensor() * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    loss.backward().unwrap()
}

fn values(var: &Var) -> Vec<f32> {
    var.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(left: &[f32], right: &[f64]) {
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(right) {
        assert!((f64::from(*a) - b).abs() < 1e-6, "{left:?} is not {right:?}");
    }
}

#[test]
fn two_steps_equal_those_by_hand() {
    // rate .1, decay .5, g₁ = 2, g₂ = −1, p₀ = 1:
    // t = 1: m̂ = 2, v̂ = 4            → p = .95·1 − .1·2/2              = .85
    // t = 2: m = .9·.2 − .1 = .08, m̂ = .08/.19; v = .98·.08 + .02 = .0984, v̂ = .0984/.0396
    let matrix = var(&[1.0], &[1, 1]);
    let settings = AdamW { weight_decay: 0.5, ..PLAIN };
    let mut adam = Optimizer::new([("w".to_owned(), matrix.clone())], settings).unwrap();
    adam.step(&gradient_of(&[(&matrix, &[2.0])]), 1.0, 0.1).unwrap();
    assert_close(&values(&matrix), &[0.85]);
    adam.step(&gradient_of(&[(&matrix, &[-1.0])]), 1.0, 0.1).unwrap();
    let by_hand = 0.95 * 0.85 - 0.1 * (0.08 / 0.19) / (0.0984f64 / 0.0396).sqrt();
    assert_close(&values(&matrix), &[by_hand]);
    assert_eq!(adam.applied(), 2);
}

#[test]
fn biases_and_norms_do_not_decay() {
    let (matrix, bias) = (var(&[4.0], &[1, 1]), var(&[4.0], &[1]));
    let vars = [("w".to_owned(), matrix.clone()), ("b".to_owned(), bias.clone())];
    let mut adam = Optimizer::new(vars, AdamW { weight_decay: 0.5, ..PLAIN }).unwrap();
    adam.step(&gradient_of(&[(&matrix, &[0.0]), (&bias, &[0.0])]), 1.0, 0.1).unwrap();
    assert_close(&values(&matrix), &[3.8]);
    assert_close(&values(&bias), &[4.0]);
}

#[test]
fn the_norm_is_over_all_parameters_and_clipping_keeps_the_direction() {
    let (a, b) = (var(&[0.0, 0.0], &[2]), var(&[0.0], &[1, 1]));
    let vars = || [("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
    let mut adam = Optimizer::new(vars(), AdamW { clip: 0.5, ..PLAIN }).unwrap();
    let outcome = adam.step(&gradient_of(&[(&a, &[2.0, 1.0]), (&b, &[2.0])]), 2.0, 0.0).unwrap();
    assert_eq!(outcome, Outcome { norm: 6.0, applied: true });
    // m₁ = (1 − β₁) · clipped gradient: [4, 2, 4] · .5/6
    let state = adam.state().unwrap();
    assert_close(&state["first.a"].to_vec1().unwrap(), &[0.1 * 4.0 / 12.0, 0.1 * 2.0 / 12.0]);
    let mut below = Optimizer::new(vars(), AdamW { clip: 7.0, ..PLAIN }).unwrap();
    below.step(&gradient_of(&[(&a, &[2.0, 1.0]), (&b, &[2.0])]), 2.0, 0.0).unwrap();
    assert_close(&below.state().unwrap()["first.a"].to_vec1().unwrap(), &[0.4, 0.2]);
}

#[test]
fn summed_micro_batches_and_a_scale_equal_one_batch() {
    let (whole, parts) = (var(&[1.0, 2.0], &[2]), var(&[1.0, 2.0], &[2]));
    let mut one = Optimizer::new([("w".to_owned(), whole.clone())], PLAIN).unwrap();
    one.step(&gradient_of(&[(&whole, &[1.5, -3.0])]), 1.0, 0.1).unwrap();
    let mut two = Optimizer::new([("w".to_owned(), parts.clone())], PLAIN).unwrap();
    let mut sum = gradient_of(&[(&parts, &[1.0, -8.0])]);
    sum.extend(gradient_of(&[(&parts, &[5.0, -4.0])])).unwrap();
    two.step(&sum, 0.25, 0.1).unwrap();
    assert_eq!(values(&whole), values(&parts));
}

/// Sizes that span several chunks and leave remainders.
fn large() -> (Var, Vec<Vec<f32>>) {
    let n = 50_003;
    let wave = |seed: usize| (0..n).map(|i| ((i * 37 + seed * 101) as f32).sin()).collect::<Vec<f32>>();
    (var(&wave(9), &[n, 1]), (0..6).map(wave).collect())
}

#[test]
fn resuming_from_saved_moments_equals_not_stopping_bit_for_bit() {
    let run = |stops: bool| {
        let (weights, gradients) = large();
        let vars = || [("w".to_owned(), weights.clone())];
        let settings = AdamW { weight_decay: 0.01, clip: 1.0, ..PLAIN };
        let mut adam = Optimizer::new(vars(), settings).unwrap();
        for (n, gradient) in gradients.iter().enumerate() {
            if stops && n == 3 {
                let file = tempfile::NamedTempFile::new().unwrap();
                candle_core::safetensors::save(&adam.state().unwrap(), file.path()).unwrap();
                adam = Optimizer::new(vars(), settings).unwrap();
                let state = candle_core::safetensors::load(file.path(), &Device::Cpu).unwrap();
                adam.load_state(&state).unwrap();
            }
            adam.step(&gradient_of(&[(&weights, gradient)]), 1.0, 1e-2).unwrap();
        }
        assert_eq!(adam.applied(), 6);
        values(&weights)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn host_and_device_paths_agree() {
    let run = |device: bool| {
        let (weights, gradients) = large();
        let mut adam = Optimizer::new([("w".to_owned(), weights.clone())], AdamW::default()).unwrap();
        if device {
            for parameter in adam.parameters.values_mut() {
                let (first, second) = parameter.moments.tensors(&parameter.var).unwrap();
                parameter.moments = Moments::Device { first, second };
            }
        }
        for gradient in &gradients {
            adam.step(&gradient_of(&[(&weights, gradient)]), 1.0, 1e-2).unwrap();
        }
        values(&weights)
    };
    let furthest = run(false).iter().zip(run(true)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 1e-6, "{furthest}");
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_is_counted() {
    let weights = var(&[1.0, 2.0], &[2]);
    let mut adam = Optimizer::new([("w".to_owned(), weights.clone())], PLAIN).unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let outcome = adam.step(&gradient_of(&[(&weights, &[1.0, bad])]), 1.0, 0.1).unwrap();
        assert!(!outcome.applied);
    }
    assert_eq!((values(&weights), adam.skipped(), adam.applied()), (vec![1.0, 2.0], 2, 0));
    assert_eq!(adam.state().unwrap()["first.w"].to_vec1::<f32>().unwrap(), [0.0, 0.0]);
}

#[test]
fn too_many_in_a_row_end_the_run_and_a_good_one_starts_the_count_again() {
    let weights = var(&[1.0], &[1]);
    let mut adam = Optimizer::new([("w".to_owned(), weights.clone())], PLAIN).unwrap();
    let mut step = |g: f32| adam.step(&gradient_of(&[(&weights, &[g])]), 1.0, 0.1);
    for g in [f32::NAN, f32::NAN, 1.0, f32::NAN, f32::NAN] {
        assert!(step(g).is_ok());
    }
    let error = step(f32::NAN).unwrap_err().to_string();
    assert!(error.contains("3 updates in a row"), "{error}");
}

#[test]
fn a_parameter_that_no_gradient_reaches_is_named() {
    let (used, cut) = (var(&[1.0], &[1]), var(&[1.0], &[1]));
    let vars = [("used".to_owned(), used.clone()), ("encoder.cut".to_owned(), cut)];
    let mut adam = Optimizer::new(vars, PLAIN).unwrap();
    let error = adam.step(&gradient_of(&[(&used, &[1.0])]), 1.0, 0.1).unwrap_err().to_string();
    assert!(error.contains("encoder.cut"), "{error}");
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let small = Optimizer::new([("w".to_owned(), var(&[1.0], &[1]))], PLAIN).unwrap();
    let mut wide = Optimizer::new([("w".to_owned(), var(&[1.0, 2.0], &[2]))], PLAIN).unwrap();
    let error = wide.load_state(&small.state().unwrap()).unwrap_err().to_string();
    assert!(error.contains("first.w") && error.contains("[1]") && error.contains("[2]"), "{error}");
    let mut other = Optimizer::new([("u".to_owned(), var(&[1.0], &[1]))], PLAIN).unwrap();
    assert!(other.load_state(&small.state().unwrap()).unwrap_err().to_string().contains("first.u"));
}
