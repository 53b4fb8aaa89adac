//! How good translations are: [BLEU](BleuStats) and [chrF](ChrfStats) with sacreBLEU's numbers, and the
//! [rate of repeats](Repetition); whether [two differ](compare) by more than chance. Knows texts, never
//! networks.
//!
//! Each measure is a type of sums over sentences (`of` one sentence, `+`, `score`), so that a corpus, a
//! part of it and a bootstrap sample are scored alike.

mod bleu;
mod chrf;
mod repetition;
mod significance;
#[cfg(test)]
mod testing;

pub use bleu::{Bleu, BleuStats, bleu_signature, corpus_bleu};
pub use chrf::{ChrfStats, chrf_signature, corpus_chrf};
pub use repetition::Repetition;
pub use significance::{Comparison, Interval, Resamples, compare};

/// What Python's `str.split` calls white space: Unicode's, and the four separators of ASCII.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
