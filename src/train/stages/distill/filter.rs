//! Decides which translations of a teacher are kept.

use std::collections::HashSet;

use crate::decode::SearchResult;
use crate::train::config::Distill as Settings;

/// A difference of this many tokens is always accepted, because length ratios of short sentences vary a lot.
const SLACK: usize = 4;

/// The first reason to drop a translation, if any. `source` is the number of source tokens, without bos and eos.
pub fn drop_reason(found: &SearchResult, source: usize, settings: &Settings) -> Option<&'static str> {
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

/// Whether some sequence of `n` tokens occurs twice; never if `n` is 0.
fn repeats(tokens: &[u32], n: usize) -> bool {
    let mut seen = HashSet::new();
    n > 0 && tokens.windows(n).any(|ngram| !seen.insert(ngram))
}

#[cfg(test)]
mod tests;
