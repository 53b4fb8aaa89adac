//! Which translations of a teacher are kept.

use std::collections::HashSet;

use crate::decode::Searched;
use crate::train::config::Distill as Settings;

/// A difference of so many tokens is never too much: ratios of short sentences say little.
const SLACK: usize = 4;

/// Why a translation is left out, if it is: the first reason that holds. `source` counts without bos and eos.
pub fn objection(found: &Searched, source: usize, settings: &Settings) -> Option<&'static str> {
    let tokens = &found.hypothesis.tokens;
    let (short, long) = (source.min(tokens.len()), source.max(tokens.len()));
    if !found.finished {
        Some("unfinished")
    } else if tokens.is_empty() {
        Some("empty")
    } else if long > short + SLACK && long as f64 > settings.max_length_ratio * short as f64 {
        Some("length_ratio")
    } else if repeats(tokens, settings.repeated_ngram) {
        Some("repeated_ngram")
    } else {
        None
    }
}

/// Whether some `n` tokens in a row stand twice, where n is not 0.
fn repeats(tokens: &[u32], n: usize) -> bool {
    let mut seen = HashSet::new();
    n > 0 && tokens.windows(n).any(|ngram| !seen.insert(ngram))
}

#[cfg(test)]
mod tests;
