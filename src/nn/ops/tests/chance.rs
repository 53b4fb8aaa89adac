//! Dropout: its share, its independence, and equal masks in both directions.

use proptest::prelude::*;

use super::*;
use crate::nn::ops::{dropout, residual_dropout};

/// The factors of dropout for a tensor of this shape.
pub(super) fn mask_of(like: &Tensor, p: f32, seed: u64) -> Tensor {
    dropout(&like.ones_like().expect("ones"), p, seed).expect("dropout")
}

fn mask(count: usize, p: f32, seed: u64) -> Vec<f32> {
    flat(&mask_of(&random(count, 0), p, seed))
}

/// The share of values that are dropped in both or in neither.
fn agreement(a: &[f32], b: &[f32]) -> f64 {
    let same = a.iter().zip(b).filter(|(a, b)| (**a == 0.0) == (**b == 0.0)).count();
    same as f64 / a.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_share_p_is_dropped_and_the_expectation_kept(p in 0.01f32..0.9, seed: u64) {
        const COUNT: usize = 40_000;
        let mask = mask(COUNT, p, seed);
        let dropped = mask.iter().filter(|&&v| v == 0.0).count() as f64 / COUNT as f64;
        let p = f64::from(p);
        let five_sigma = 5.0 * (p * (1.0 - p) / COUNT as f64).sqrt();
        prop_assert!((dropped - p).abs() < five_sigma, "{dropped} of {p}");
        let scale = 1.0 / (1.0 - p);
        prop_assert!(mask.iter().all(|&v| v == 0.0 || (f64::from(v) - scale).abs() < 1e-5 * scale));
        let mean = mask.iter().map(|&v| f64::from(v)).sum::<f64>() / COUNT as f64;
        prop_assert!((mean - 1.0).abs() < five_sigma * scale + 1e-4, "mean {mean}");
    }

    #[test]
    fn other_seeds_and_other_places_are_independent(p in 0.1f32..0.5, seed: u64, other: u64) {
        const COUNT: usize = 40_000;
        prop_assume!(seed != other);
        let p64 = f64::from(p);
        let chance = p64 * p64 + (1.0 - p64) * (1.0 - p64);
        let mine = mask(COUNT, p, seed);
        let near = |share: f64| (share - chance).abs() < 0.02;
        // Another seed, and the seed of the next dropout.
        prop_assert!(near(agreement(&mine, &mask(COUNT, p, other))));
        prop_assert!(near(agreement(&mine, &mask(COUNT, p, seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))));
        // The neighbour, and the value below in rows of 256.
        prop_assert!(near(agreement(&mine[1..], &mine[..COUNT - 1])));
        prop_assert!(near(agreement(&mine[256..], &mine[..COUNT - 256])));
    }
}

#[test]
fn a_seed_drops_the_same_places_on_any_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| mask(100_003, 0.2, 7))
    };
    assert_eq!(on(1), on(3));
    assert_ne!(mask(1000, 0.2, 7), mask(1000, 0.2, 8));
}

#[test]
fn the_gradient_is_dropped_where_the_value_was() {
    let (x, branch) = (random((3, 5000), 1), random((3, 5000), 2));
    let mask = mask_of(&x, 0.5, 11);
    let expected = (weighting(&x) * &mask).expect("gradient");
    let (_, grads) = with_gradients(|t| dropout(&t[0], 0.5, 11), std::slice::from_ref(&x));
    assert_eq!(flat(&grads[0]), flat(&expected));
    let (_, grads) = with_gradients(|t| residual_dropout(&t[0], &t[1], 0.5, 11), &[x.clone(), branch]);
    assert_eq!(flat(&grads[0]), flat(&weighting(&x)));
    assert_eq!(flat(&grads[1]), flat(&expected));
}

#[test]
fn dropout_of_zero_changes_no_bit() {
    let x = random((3, 50), 1);
    assert_eq!(bits(&dropout(&x, 0.0, 3).expect("dropout")), bits(&x));
}
