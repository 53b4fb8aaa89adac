//! The one source of chance in training: weights, order, masks and dropout are all drawn from here.
//!
//! A generator is a 256-bit key and a place in its stream (ChaCha8). [`Rng::fork`] derives a new key
//! from the key, a label and a counter, and does not look at the place: what update `n` draws is a
//! pure function of (seed, n), so a resumed run needs no generator state to go on exactly.
//! The draws are our own few lines, so that an update of a dependency cannot change a trained model.

use std::f64::consts::TAU;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    pub fn from_seed(seed: u64) -> Self {
        Self::from_parts(&[b"tutti", &seed.to_le_bytes()])
    }

    /// The independent stream named by `label` and `counter`, whatever was drawn from `self` before.
    pub fn fork(&self, label: &str, counter: u64) -> Self {
        Self::from_parts(&[&self.0.get_seed(), label.as_bytes(), &counter.to_le_bytes()])
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// U[0, 1), in steps of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform over `0..n`; 0 for `n = 0`. Exact: the draws that would favour low numbers are repeated
    /// (Lemire 2019, arXiv 1805.10941).
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let unfair = if n == 0 { 0 } else { n.wrapping_neg() % n };
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= unfair {
                return (product >> 64) as usize;
            }
        }
    }

    /// N(0, 1).
    pub fn normal(&mut self) -> f32 {
        self.normal_pair()[0]
    }

    /// Fills `out` with N(0, `std`²).
    pub fn fill_normal(&mut self, out: &mut [f32], std: f32) {
        for two in out.chunks_mut(2) {
            let drawn = self.normal_pair();
            for (slot, value) in two.iter_mut().zip(drawn) {
                *slot = value * std;
            }
        }
    }

    /// Box–Muller: two independent N(0, 1) from two uniforms.
    fn normal_pair(&mut self) -> [f32; 2] {
        // 1 − U lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        let angle = TAU * f64::from(self.uniform());
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    }

    /// Fisher–Yates: every order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `min(k, n)` different numbers of `0..n`, ascending, every such set equally likely.
    pub fn sample(&mut self, k: usize, n: usize) -> Vec<usize> {
        let k = k.min(n);
        let mut numbers: Vec<usize> = (0..n).collect();
        for chosen in 0..k {
            let other = chosen + self.below(n - chosen);
            numbers.swap(chosen, other);
        }
        numbers.truncate(k);
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Rng; // not the trait of proptest's prelude

    #[test]
    fn a_fork_does_not_depend_on_what_was_drawn_before() {
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
    fn a_generator_goes_on_from_its_serialized_state() {
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
    fn normal_draws_have_mean_zero_and_the_asked_deviation() {
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
}
