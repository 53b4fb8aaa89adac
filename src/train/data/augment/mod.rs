//! Random changes to sentence pairs on their way into a batch, after OpusTrainer. [`Augment`] lists them with their
//! rates.

mod case;
mod emoji;
pub mod spans;
mod typos;

use crate::Result;
use crate::text::Tokenizer;
use crate::text::spans::Languages;
use crate::train::config::{Augment, LengthLimit};
use crate::train::data::corpus::Pair;
use crate::train::rng::Rng;

/// Number of sentences that are joined, as in OpusTrainer.
const JOINED: std::ops::RangeInclusive<usize> = 2..=4;

pub struct Augmenter<'a> {
    pub rates: Augment,
    pub tokenizer: &'a Tokenizer,
    pub languages: &'a Languages,
    /// Limit of a pair after the changes.
    pub limit: LengthLimit,
}

/// A sentence and its translation.
pub type Sides<T> = [T; 2];

impl Augmenter<'_> {
    /// Returns the next training pair and the number of `texts` that it uses, at least one. Each of the texts must be
    /// within the limit. All random choices come from `rng`.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn pair(&self, texts: &[(&str, &str)], rng: &mut Rng) -> Result<(Pair, usize)> {
        let used = if hits(self.rates.join, rng) { self.joinable(texts, rng)? } else { 1 };
        let plain = join(&texts[..used]);
        let varied = self.varied(plain.clone(), rng)?;
        if self.fits(&varied) {
            return Ok((varied, used));
        }
        let plain = self.encode(&plain)?;
        if self.fits(&plain) {
            return Ok((plain, used));
        }
        let (source, target) = texts[0];
        let pair = Pair { source: self.tokenizer.encode(source)?, target: self.tokenizer.encode(target)? };
        Ok((pair, 1))
    }

    fn varied(&self, mut sides: Sides<String>, rng: &mut Rng) -> Result<Pair> {
        let rates = &self.rates;
        // All are drawn before any is applied, so that one rate does not change the draws of the others.
        let [unmarked, emoji, upper, title, typos, reserves] =
            [rates.no_final_mark, rates.emoji, rates.upper_case, rates.title_case, rates.typos, rates.spans]
                .map(|rate| hits(rate, rng));
        if unmarked && sides.iter().all(|text| ends_with_mark(text)) {
            sides = sides.map(|text| text.trim_end_matches(is_final_mark).trim_end().to_owned());
        }
        if emoji {
            sides = emoji::insert(&sides, rng);
        }
        let reserves = reserves && self.tokenizer.reserved() > 0;
        if !(upper || title || typos || reserves) {
            return self.encode(&sides);
        }
        let [mut source, mut target] = spans::cut(&sides, self.languages);
        for side in [&mut source, &mut target] {
            if upper {
                side.change(|text, _| text.to_uppercase());
            }
            if title {
                side.change(case::title);
            }
        }
        if typos {
            source.change_longest(|text| typos::add(text, rng));
        }
        let spans = source.spans();
        if !reserves || spans == 0 {
            return self.encode(&[source.text(), target.text()]);
        }
        let first = spans::first_token(spans, self.tokenizer.reserved(), rng);
        let encode = |side: &spans::Pieces| side.encode_reserved(first, self.tokenizer);
        Ok(Pair { source: encode(&source)?, target: encode(&target)? })
    }

    /// Draws a number of sentences, and returns how many of the first texts can be joined: their sum must be within
    /// the limit, and each but the last must end with a punctuation mark.
    fn joinable(&self, texts: &[(&str, &str)], rng: &mut Rng) -> Result<usize> {
        let wanted = JOINED.start() + rng.below(JOINED.end() - JOINED.start() + 1);
        let mut count = 0;
        let mut tokens = [2, 2]; // bos and eos
        for &(source, target) in texts.iter().take(wanted) {
            let own = [self.tokenizer.encode(source)?.len() - 2, self.tokenizer.encode(target)?.len() - 2];
            tokens = [tokens[0] + own[0], tokens[1] + own[1]];
            if tokens.iter().any(|&tokens| tokens > self.limit.tokens) {
                break;
            }
            count += 1;
            if !ends_with_mark(source) || !ends_with_mark(target) {
                break;
            }
        }
        Ok(count.max(1))
    }

    fn encode(&self, [source, target]: &Sides<String>) -> Result<Pair> {
        Ok(Pair { source: self.tokenizer.encode(source)?, target: self.tokenizer.encode(target)? })
    }

    /// Whether a pair is within the limit and not empty on either side.
    fn fits(&self, pair: &Pair) -> bool {
        let fits = |ids: &[u32]| (3..=self.limit.tokens).contains(&ids.len());
        fits(&pair.source) && fits(&pair.target) && pair.fits(self.limit)
    }
}

/// Whether to make a change of this rate. Always draws, so that rates do not affect each other.
fn hits(rate: f64, rng: &mut Rng) -> bool {
    f64::from(rng.uniform()) < rate
}

fn join(texts: &[(&str, &str)]) -> Sides<String> {
    let (sources, targets): (Vec<&str>, Vec<&str>) = texts.iter().copied().unzip();
    [sources.join(" "), targets.join(" ")]
}

fn ends_with_mark(text: &str) -> bool {
    text.ends_with(is_final_mark)
}

fn is_final_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…')
}

#[cfg(test)]
mod tests;
