//! chrF2 (Popović 2015) with the defaults of sacreBLEU: character n-grams of order 1 to 6 without white space, no
//! words, recall weighted twice, averaged over the orders that occur on both sides.

use std::collections::HashMap;
use std::iter::Sum;
use std::ops::Add;

use super::is_python_space;

const MAX_ORDER: usize = 6;
const BETA: f64 = 2.0;

/// The counts of chrF for one sentence. They can be summed like [`BleuStats`](super::BleuStats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfStats {
    /// N-grams of the hypothesis, by order from 1; 0 if the reference is too short for the order.
    pub hypothesis: [u64; MAX_ORDER],
    pub reference: [u64; MAX_ORDER],
    /// Clipped matches.
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

    /// 0 to 100.
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

/// chrF2 of pairs of hypothesis and reference, 0 to 100.
pub fn corpus_chrf<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> f64 {
    pairs.into_iter().map(|(h, r)| ChrfStats::of(h, r)).sum::<ChrfStats>().score()
}

/// The signature in sacreBLEU's format, with tutti's version.
pub fn chrf_signature() -> String {
    format!("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:tutti-{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
