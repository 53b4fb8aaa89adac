//! The source of all randomness in training: initial weights, order, masks and dropout.
//!
//! A generator is a 256-bit key and a position in its stream (ChaCha8). [`Rng::fork`] derives a new key from the key,
//! a label and a counter, regardless of the position. The draws of update `n` are a pure function of (seed, n), so a
//! resumed run needs no saved generator. The distributions are implemented here, so that an update of a dependency
//! cannot change a trained model.

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

    /// The independent stream named by `label` and `counter`, regardless of earlier draws from `self`.
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

    /// Uniform over `0..n`; 0 for `n = 0`. Without bias: draws that would favour low numbers are repeated (Lemire
    /// 2019, arXiv 1805.10941).
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
        // 1 − U is in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        let angle = TAU * f64::from(self.uniform());
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    }

    /// Fisher–Yates: all orders have equal probability.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `min(k, n)` different numbers of `0..n`, ascending. All such sets have equal probability.
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
mod tests;
