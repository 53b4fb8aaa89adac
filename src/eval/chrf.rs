//! chrF2 (Popović 2015) as sacreBLEU computes it by default: character n-grams up to six without white
//! space, no words, recall weighted twice, averaged over the orders that both sides have.

use std::collections::HashMap;
use std::iter::Sum;
use std::ops::Add;

use super::is_python_space;

const MAX_ORDER: usize = 6;
const BETA: f64 = 2.0;

/// What chrF needs to know of a sentence, or of many: sums like [`BleuStats`](super::BleuStats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfStats {
    /// N-grams of the hypothesis, by order from 1; 0 where the reference is too short to have any.
    pub hypothesis: [u64; MAX_ORDER],
    pub reference: [u64; MAX_ORDER],
    /// Those that both have, clipped.
    pub matched: [u64; MAX_ORDER],
}

impl ChrfStats {
    pub fn of(hypothesis: &str, reference: &str) -> Self {
        let letters = |text: &str| text.chars().filter(|&c| !is_python_space(c)).collect::<Vec<_>>();
        let (hypothesis, reference) = (letters(hypothesis), letters(reference));
        let mut stats = Self::default();
        for order in 1..=MAX_ORDER {
            let mut left: HashMap<&[char], u64> = HashMap::new();
            for ngram in reference.windows(order) {
                *left.entry(ngram).or_default() += 1;
                stats.reference[order - 1] += 1;
            }
            if left.is_empty() {
                continue;
            }
            for ngram in hypothesis.windows(order) {
                stats.hypothesis[order - 1] += 1;
                if let Some(count) = left.get_mut(ngram).filter(|count| **count > 0) {
                    *count -= 1;
                    stats.matched[order - 1] += 1;
                }
            }
        }
        stats
    }

    /// In percent.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for order in 0..MAX_ORDER {
            let (hypothesis, reference) = (self.hypothesis[order], self.reference[order]);
            if hypothesis > 0 && reference > 0 {
                precision += self.matched[order] as f64 / hypothesis as f64;
                recall += self.matched[order] as f64 / reference as f64;
                orders += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        let factor = BETA * BETA;
        100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
    }
}

impl Add for ChrfStats {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for order in 0..MAX_ORDER {
            self.hypothesis[order] += other.hypothesis[order];
            self.reference[order] += other.reference[order];
            self.matched[order] += other.matched[order];
        }
        self
    }
}

impl Sum for ChrfStats {
    fn sum<I: Iterator<Item = Self>>(sentences: I) -> Self {
        sentences.fold(Self::default(), Add::add)
    }
}

/// chrF2 of (hypothesis, reference) pairs, in percent.
pub fn corpus_chrf<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> f64 {
    pairs.into_iter().map(|(h, r)| ChrfStats::of(h, r)).sum::<ChrfStats>().score()
}

/// What was computed, in sacreBLEU's words; the version is ours, for the code is.
pub fn chrf_signature() -> String {
    format!("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:tutti-{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
