//! Corpus BLEU (Papineni et al. 2002) with the defaults of sacreBLEU: one reference, cased, 13a tokens, exponential
//! smoothing.

use std::collections::HashMap;
use std::iter::Sum;
use std::ops::Add;

use super::is_python_space;

const MAX_ORDER: usize = 4;

/// The counts of BLEU for one sentence. Sums of them give the counts of a corpus or of a bootstrap sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuStats {
    /// Clipped matches: n-grams of the hypothesis that also occur in the reference, by order from 1.
    pub correct: [u64; MAX_ORDER],
    /// N-grams of the hypothesis, by order from 1.
    pub total: [u64; MAX_ORDER],
    pub hypothesis_tokens: u64,
    pub reference_tokens: u64,
}

/// A score and its parts, 0 to 100, as in sacreBLEU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    pub score: f64,
    /// Smoothed n-gram precisions, by order from 1.
    pub precisions: [f64; MAX_ORDER],
    /// 0 to 1.
    pub brevity_penalty: f64,
}

impl BleuStats {
    pub fn of(hypothesis: &str, reference: &str) -> Self {
        let (hypothesis, reference) = (tokenize_13a(hypothesis), tokenize_13a(reference));
        let mut stats = Self {
            hypothesis_tokens: hypothesis.len() as u64,
            reference_tokens: reference.len() as u64,
            ..Self::default()
        };
        for order in 1..=MAX_ORDER {
            let mut left: HashMap<&[String], u64> = HashMap::new();
            for ngram in reference.windows(order) {
                *left.entry(ngram).or_default() += 1;
            }
            for ngram in hypothesis.windows(order) {
                stats.total[order - 1] += 1;
                if let Some(count) = left.get_mut(ngram).filter(|count| **count > 0) {
                    *count -= 1;
                    stats.correct[order - 1] += 1;
                }
            }
        }
        stats
    }

    pub fn score(&self) -> Bleu {
        let (sys, reference) = (self.hypothesis_tokens as f64, self.reference_tokens as f64);
        let brevity_penalty = match self.hypothesis_tokens {
            n if n >= self.reference_tokens => 1.0,
            0 => 0.0,
            _ => (1.0 - reference / sys).exp(),
        };
        let mut precisions = [0.0; MAX_ORDER];
        let mut score = 0.0;
        if self.correct.iter().any(|&n| n > 0) {
            let mut smoothing = 1.0;
            for ((precision, &correct), &total) in precisions.iter_mut().zip(&self.correct).zip(&self.total) {
                if total == 0 {
                    break;
                }
                *precision = if correct == 0 {
                    smoothing *= 2.0;
                    100.0 / (smoothing * total as f64)
                } else {
                    100.0 * correct as f64 / total as f64
                };
            }
            // An order without n-grams has precision 0, so the score is 0.
            score =
                brevity_penalty * (precisions.iter().map(|p| p.ln()).sum::<f64>() / MAX_ORDER as f64).exp();
        }
        Bleu { score, precisions, brevity_penalty }
    }
}

impl Add for BleuStats {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for order in 0..MAX_ORDER {
            self.correct[order] += other.correct[order];
            self.total[order] += other.total[order];
        }
        self.hypothesis_tokens += other.hypothesis_tokens;
        self.reference_tokens += other.reference_tokens;
        self
    }
}

impl Sum for BleuStats {
    fn sum<I: Iterator<Item = Self>>(sentences: I) -> Self {
        sentences.fold(Self::default(), Add::add)
    }
}

/// BLEU of pairs of hypothesis and reference.
pub fn corpus_bleu<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bleu {
    pairs.into_iter().map(|(h, r)| BleuStats::of(h, r)).sum::<BleuStats>().score()
}

/// The signature in sacreBLEU's format, with tutti's version.
pub fn bleu_signature() -> String {
    format!("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tutti-{}", env!("CARGO_PKG_VERSION"))
}

/// Tokens of mteval-v13a, like sacreBLEU's `13a`: entities are replaced; ASCII punctuation is separated; periods and
/// commas are separated unless between digits; a hyphen is separated after a digit.
fn tokenize_13a(line: &str) -> Vec<String> {
    let line = line.trim_end_matches(is_python_space);
    let line = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut chars = vec![' '];
    for c in line.chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            chars.extend([' ', c, ' ']);
        } else {
            chars.push(c);
        }
    }
    chars.push(' ');
    let point = |c: char| matches!(c, '.' | ',');
    let digit = |c: char| c.is_ascii_digit();
    let chars = rewrite(&chars, |a, b| (!digit(a) && point(b)).then_some([a, ' ', b, ' ']));
    let chars = rewrite(&chars, |a, b| (point(a) && !digit(b)).then_some([' ', a, ' ', b]));
    let chars = rewrite(&chars, |a, b| (digit(a) && b == '-').then_some([a, ' ', b, ' ']));
    let text: String = chars.into_iter().collect();
    text.split(is_python_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// Replaces non-overlapping pairs of characters from left to right, like a regular expression of two characters.
fn rewrite(chars: &[char], rule: impl Fn(char, char) -> Option<[char; 4]>) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len() + 16);
    let mut rest = chars;
    while let [first, after @ ..] = rest {
        if let Some(new) = after.first().and_then(|&second| rule(*first, second)) {
            out.extend(new);
            rest = &after[1..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests;
