//! Tests whether the difference of two systems is larger than chance: paired bootstrap resampling (Koehn 2004), as in
//! sacreBLEU's `paired-bs` and the script of Moses.

use std::iter::Sum;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bootstrap samples: sets of sentences drawn from the test set with replacement, each as large as the test set. Both
/// systems of a comparison are scored on the same sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resamples(Vec<Vec<u32>>);

impl Resamples {
    /// Draws `count` sets of `sentences` each, a pure function of the arguments.
    pub fn draw(sentences: usize, count: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = u32::try_from(sentences).unwrap_or(u32::MAX);
        let mut draw = || (0..sentences).map(|_| rng.random_range(0..size)).collect();
        Self((0..count).map(|_| draw()).collect())
    }

    /// The corpus score of each set. `statistics` holds the counts of all sentences; missing ones count as empty.
    pub fn scores<S: Copy + Sum>(&self, statistics: &[S], score: impl Fn(S) -> f64) -> Vec<f64> {
        let chosen = |set: &Vec<u32>| set.iter().filter_map(|&i| statistics.get(i as usize)).copied().sum();
        self.0.iter().map(|set| score(chosen(set))).collect()
    }
}

/// A system compared with a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// System minus baseline, on the test set.
    pub difference: f64,
    /// Probability of at least this difference by chance.
    pub p_value: f64,
}

/// The distribution of a system's scores over the sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    /// Half the width of the 95 % interval.
    pub half_width: f64,
}

/// Compares two systems by their scores on the test set and on the same bootstrap samples.
///
/// The differences on the samples, shifted to mean 0, are the distribution under chance. The p-value is the share of
/// them that exceeds the real difference, where one more sample is counted as exceeding. Equal scores have a p-value
/// of 1 (sacreBLEU gives the smallest possible one).
pub fn compare(baseline: f64, system: f64, baseline_sets: &[f64], system_sets: &[f64]) -> Comparison {
    let difference = system - baseline;
    let gaps: Vec<f64> = system_sets.iter().zip(baseline_sets).map(|(s, b)| (s - b).abs()).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    let exceeding = gaps.iter().filter(|&&gap| gap - mean > difference.abs()).count();
    let p_value = if difference == 0.0 { 1.0 } else { (exceeding + 1) as f64 / (gaps.len() + 1) as f64 };
    Comparison { difference, p_value }
}

impl Interval {
    /// `None` without samples.
    pub fn of(sets: &[f64]) -> Option<Self> {
        let mut sorted = sets.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = sorted.len() / 40;
        let (low, high) = (sorted.get(cut)?, sorted.get(sorted.len() - cut - 1)?);
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(Self { mean, half_width: 0.5 * (high - low) })
    }
}

#[cfg(test)]
mod tests;
