//! Scores translations: [BLEU](BleuStats) and [chrF](ChrfStats), equal to sacreBLEU's; the [rate of
//! repeats](Repetition); and a [significance test](compare). Works on texts, without networks.
//!
//! Each score has a type for the counts of a sentence (`of`, `+`, `score`), so that a corpus, a part of it and a
//! bootstrap sample are scored in the same way.

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

/// White space of Python's `str.split`: Unicode's, and the four ASCII separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
