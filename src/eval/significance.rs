//! Whether one system is better than another, or only luckier with the sentences: paired bootstrap
//! resampling (Koehn 2004), defined as sacreBLEU's `paired-bs` and Moses' script before it.

use std::iter::Sum;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sets of sentences, each drawn from the test set with replacement and as large as it. Both systems of
/// a comparison are scored on the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resamples(Vec<Vec<u32>>);

impl Resamples {
    /// `count` sets of `sentences` each, a pure function of the three.
    pub fn draw(sentences: usize, count: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = u32::try_from(sentences).unwrap_or(u32::MAX);
        let mut draw = || (0..sentences).map(|_| rng.random_range(0..size)).collect();
        Self((0..count).map(|_| draw()).collect())
    }

    /// The corpus score of each set; `statistics` are those of the single sentences. A set asks for
    /// sentences that are there, so a shorter slice is read as if the others were empty.
    pub fn scores<S: Copy + Sum>(&self, statistics: &[S], score: impl Fn(S) -> f64) -> Vec<f64> {
        let chosen = |set: &Vec<u32>| set.iter().filter_map(|&i| statistics.get(i as usize)).copied().sum();
        self.0.iter().map(|set| score(chosen(set))).collect()
    }
}

/// One system against a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// System minus baseline, on the test set itself.
    pub difference: f64,
    /// How often chance alone makes a difference as large.
    pub p_value: f64,
}

/// Where a system's score lies over the sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    /// Half the width of the 95 % interval.
    pub half_width: f64,
}

/// Compares two systems by their scores on the test set and on the same sets.
///
/// The differences of the sets, moved so that their mean is nothing, are what chance does; the p-value is
/// the share that exceeds the real difference, counting one set more for which it holds. Equal scores
/// have a p-value of 1 (sacreBLEU gives the least there is).
pub fn compare(baseline: f64, system: f64, baseline_sets: &[f64], system_sets: &[f64]) -> Comparison {
    let difference = system - baseline;
    let gaps: Vec<f64> = system_sets.iter().zip(baseline_sets).map(|(s, b)| (s - b).abs()).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    let exceeding = gaps.iter().filter(|&&gap| gap - mean > difference.abs()).count();
    let p_value = if difference == 0.0 { 1.0 } else { (exceeding + 1) as f64 / (gaps.len() + 1) as f64 };
    Comparison { difference, p_value }
}

impl Interval {
    /// `None` of nothing.
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
