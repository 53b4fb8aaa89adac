//! Which translations of a teacher are worth learning from.

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
mod tests {
    use super::*;
    use crate::decode::Hypothesis;

    fn found(tokens: &[u32]) -> Searched {
        let hypothesis = Hypothesis { tokens: tokens.to_vec(), ..Hypothesis::default() };
        Searched { hypothesis, finished: true }
    }

    fn because(tokens: &[u32], source: usize) -> Option<&'static str> {
        objection(&found(tokens), source, &Settings::default())
    }

    #[test]
    fn each_objection_has_its_name() {
        let many: Vec<u32> = (10..30).collect();
        assert_eq!(because(&many, 12), None);
        assert_eq!(because(&many, 9), Some("length_ratio"));
        assert_eq!(because(&many[..9], 20), Some("length_ratio"));
        assert_eq!(because(&many[..5], 1), None, "four tokens more are never too many");
        assert_eq!(because(&[], 2), Some("empty"));
        assert_eq!(because(&[7, 8, 9, 10, 5, 7, 8, 9, 10], 9), Some("repeated_ngram"));
        assert_eq!(because(&[7, 7, 7, 7], 4), None);
        assert_eq!(because(&[7, 7, 7, 7, 7], 5), Some("repeated_ngram"));
        let unfinished = Searched { finished: false, ..found(&many) };
        assert_eq!(objection(&unfinished, 20, &Settings::default()), Some("unfinished"));
    }

    #[test]
    fn repeats_may_be_allowed() {
        let settings = Settings { repeated_ngram: 0, ..Settings::default() };
        assert_eq!(objection(&found(&[7; 9]), 9, &settings), None);
    }
}
