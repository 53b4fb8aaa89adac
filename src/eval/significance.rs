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
mod tests {
    use super::*;
    use crate::eval::{BleuStats, ChrfStats};

    /// Reference, baseline, system.
    const SENTENCES: [[&str; 3]; 6] = [
        [
            "Der Hund schläft auf dem Sofa.",
            "Der Hund schläft auf das Sofa.",
            "Der Hund schläft auf dem Sofa.",
        ],
        [
            "Die Katze sieht das Meer heute nicht.",
            "Die Katze sieht heute das Meer nicht.",
            "Die Katze sieht das Meer nicht.",
        ],
        ["Ein Mann geht langsam nach Hause.", "Ein Mann geht nach Hause.", "Ein Mann geht langsam Hause."],
        [
            "Das Kind liest ein gutes Buch im Garten.",
            "Das Kind liest ein Buch im Garten.",
            "Das Kind liest ein gutes Buch in Garten.",
        ],
        [
            "Mein Freund isst jeden Morgen frisches Brot.",
            "Mein Freund isst Brot.",
            "Mein Freund isst jeden Morgen Brot.",
        ],
        [
            "Wir haben gestern lange auf den Bus gewartet.",
            "Wir haben gestern auf den Bus gewartet.",
            "Wir haben lange auf Bus gewartet.",
        ],
    ];

    struct Scored {
        comparison: Comparison,
        interval: Interval,
    }

    fn score<S: Copy + Sum>(of: fn(&str, &str) -> S, score: fn(S) -> f64, resamples: &Resamples) -> Scored {
        let statistics = |column: usize| SENTENCES.map(|s| of(s[column], s[0]));
        let [(baseline, baseline_sets), (system, system_sets)] = [1, 2].map(|column| {
            let statistics = statistics(column);
            (score(statistics.into_iter().sum()), resamples.scores(&statistics, score))
        });
        Scored {
            comparison: compare(baseline, system, &baseline_sets, &system_sets),
            interval: Interval::of(&system_sets).unwrap(),
        }
    }

    fn bleu(resamples: &Resamples) -> Scored {
        score(BleuStats::of, |s| s.score().score, resamples)
    }

    fn chrf(resamples: &Resamples) -> Scored {
        score(ChrfStats::of, |s| s.score(), resamples)
    }

    /// sacreBLEU 2.6.0, `_paired_bs_test` with 7 samples and seed 12345, and the indices that numpy drew.
    #[test]
    fn the_numbers_are_sacrebleus_on_its_own_samples() {
        let resamples = Resamples(vec![
            vec![4, 1, 4, 1, 1, 4],
            vec![3, 4, 5, 2, 5, 1],
            vec![3, 3, 1, 1, 1, 4],
            vec![3, 5, 4, 1, 5, 5],
            vec![4, 4, 0, 0, 1, 2],
            vec![0, 5, 2, 4, 1, 1],
            vec![0, 4, 4, 1, 4, 0],
        ]);
        let near = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-4, "{ours} is not {theirs}");
        let Scored { comparison, interval } = bleu(&resamples);
        near(comparison.difference, 61.01881161148332 - 44.776307300712396);
        near(comparison.p_value, 0.375);
        near(interval.mean, 60.56044735154252);
        near(interval.half_width, 14.823873312130125);
        let Scored { comparison, interval } = chrf(&resamples);
        near(comparison.difference, 78.27742811232868 - 69.66898714389504);
        near(comparison.p_value, 0.25);
        near(interval.mean, 76.57123);
        near(interval.half_width, 5.386242);
    }

    /// sacreBLEU with 20,000 samples: .0941 and .0755; our samples are others.
    #[test]
    fn many_samples_of_our_own_come_to_what_sacrebleu_comes_to() {
        let resamples = Resamples::draw(SENTENCES.len(), 20_000, 1);
        for (ours, theirs) in [
            (bleu(&resamples).comparison.p_value, 0.0941),
            (chrf(&resamples).comparison.p_value, 0.0755),
            (bleu(&resamples).interval.half_width / 200.0, 18.7229 / 200.0),
        ] {
            // Three standard deviations of a share of 20,000.
            assert!((ours - theirs).abs() < 0.0066, "{ours} is not {theirs}");
        }
    }

    #[test]
    fn a_seed_is_a_sample_and_another_seed_another() {
        let draw = |seed| Resamples::draw(50, 4, seed);
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert!(draw(3).0.iter().flatten().all(|&i| i < 50));
    }

    #[test]
    fn equal_systems_differ_by_chance_alone() {
        let sets = [10.0, 12.0, 11.0];
        assert_eq!(compare(11.0, 11.0, &sets, &sets), Comparison { difference: 0.0, p_value: 1.0 });
        assert_eq!(Interval::of(&[]), None);
    }
}
