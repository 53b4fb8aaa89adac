use proptest::prelude::*;

use super::Rng; // not the trait of proptest's prelude

#[test]
fn a_fork_does_not_depend_on_earlier_draws() {
    let fresh = Rng::from_seed(7);
    let mut used = fresh.clone();
    for _ in 0..1000 {
        used.next_u64();
    }
    assert_eq!(fresh.fork("update", 3), used.fork("update", 3));
}

#[test]
fn seed_label_and_counter_each_name_another_stream() {
    let root = Rng::from_seed(7);
    let mut firsts: Vec<u64> = [
        root.clone(),
        Rng::from_seed(8),
        root.fork("mask", 0),
        root.fork("mask", 1),
        root.fork("dropout", 0),
        root.fork("mask", 0).fork("mask", 0),
    ]
    .iter_mut()
    .map(Rng::next_u64)
    .collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 6);
}

#[test]
fn a_generator_continues_from_its_serialized_state() {
    let mut rng = Rng::from_seed(1);
    rng.next_u32();
    let json = serde_json::to_string(&rng).unwrap();
    let mut restored: Rng = serde_json::from_str(&json).unwrap();
    assert_eq!(rng.next_u64(), restored.next_u64());
}

#[test]
fn the_stream_of_a_seed_is_the_same_in_every_release() {
    const RECORDED: [u64; 2] = [17_691_338_548_848_168_640, 5_494_410_876_295_595_342];
    let mut rng = Rng::from_seed(42).fork("weights", 0);
    assert_eq!([rng.next_u64(), rng.next_u64()], RECORDED);
}

#[test]
fn normal_draws_have_mean_zero_and_the_given_deviation() {
    let mut draws = vec![0.0; 40_001];
    Rng::from_seed(5).fill_normal(&mut draws, 0.02);
    let n = draws.len() as f64;
    let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let var = draws.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let beyond = draws.iter().filter(|x| x.abs() > 0.04).count() as f64 / n;
    assert!(mean.abs() < 5e-4, "{mean}");
    assert!((var.sqrt() - 0.02).abs() < 3e-4, "{}", var.sqrt());
    assert!((beyond - 0.0455).abs() < 0.005, "{beyond}");
}

#[test]
fn below_and_sample_are_uniform() {
    let mut rng = Rng::from_seed(11);
    let (mut single, mut sets) = ([0u32; 7], [0u32; 7]);
    for _ in 0..21_000 {
        single[rng.below(7)] += 1;
        rng.sample(3, 7).into_iter().for_each(|i| sets[i] += 1);
    }
    assert!(single.iter().all(|&n| n.abs_diff(3_000) < 250), "{single:?}");
    assert!(sets.iter().all(|&n| n.abs_diff(9_000) < 400), "{sets:?}");
}

proptest! {
    #[test]
    fn a_uniform_draw_is_below_one(seed: u64) {
        let mut rng = Rng::from_seed(seed);
        prop_assert!((0..100).all(|_| (0.0..1.0).contains(&rng.uniform())));
    }

    #[test]
    fn a_shuffle_loses_nothing(seed: u64, n in 0usize..100) {
        let mut items: Vec<usize> = (0..n).collect();
        Rng::from_seed(seed).shuffle(&mut items);
        items.sort_unstable();
        prop_assert_eq!(items, (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn a_sample_is_ascending_distinct_and_in_range(seed: u64, k in 0usize..40, n in 0usize..40) {
        let drawn = Rng::from_seed(seed).sample(k, n);
        prop_assert_eq!(drawn.len(), k.min(n));
        prop_assert!(drawn.windows(2).all(|w| w[0] < w[1]));
        prop_assert!(drawn.iter().all(|&i| i < n));
    }
}
