//! The synchronous driver for `tutti translate`, validation and evaluation. The server's engine has its own loop,
//! because there sentences join and leave a batch between passes.

use super::{DecodingRules, Encoded, Hypothesis, LengthBeam, Row, Steps, Translator, apply_all};
use crate::{Error, Result};

/// Options of [`translate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    pub steps: Steps,
    /// Number of lengths tried for each sentence; 0 counts as 1.
    pub length_beam: usize,
    /// Upper bound of rows × longest row in a batch, for the encoder and for the decoder. A single row above it makes
    /// its own batch.
    pub max_batch_tokens: usize,
    /// Merge equal neighbours of the finished translation.
    pub collapse: bool,
}

impl DecodeOptions {
    /// One length, and batches of 4096 padded tokens.
    pub fn new(steps: Steps) -> Self {
        Self { steps, length_beam: 1, max_batch_tokens: 4096, collapse: true }
    }
}

/// Translates `sources` (`bos x1..xn eos` each). Returns the candidates of each source, best first, in the order of
/// `sources`. A source without words (`bos eos` or less) has the empty translation.
///
/// # Errors
/// [`Error::TooLarge`] for a source above the network's limit, before anything is computed, and the errors of the
/// network.
pub fn translate<T: Translator>(
    translator: &T,
    sources: &[Vec<u32>],
    options: &DecodeOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    translate_by(&translator.rules(), translator, sources, options)
}

/// [`translate`] by other rules than the translator's own, such as with a language model.
///
/// # Errors
/// As [`translate`].
pub fn translate_by<T: Translator>(
    rules: &DecodingRules,
    translator: &T,
    sources: &[Vec<u32>],
    options: &DecodeOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let limit = translator.limits().source_tokens;
    if let Some(long) = sources.iter().find(|source| source.len() > limit) {
        return Err(Error::TooLarge { what: "tokens of a sentence", size: long.len(), limit });
    }
    let mut done = vec![vec![Hypothesis::default()]; sources.len()];
    let mut order: Vec<usize> = (0..sources.len()).filter(|&i| sources[i].len() > 2).collect();
    order.sort_by_key(|&i| sources[i].len());
    for batch in batches(&order, |&i| sources[i].len(), options.max_batch_tokens) {
        let texts: Vec<&[u32]> = batch.iter().map(|&i| sources[i].as_slice()).collect();
        for (&i, hypotheses) in batch.iter().zip(translate_batch(rules, translator, &texts, options)?) {
            done[i] = hypotheses;
        }
    }
    Ok(done)
}

fn translate_batch<T: Translator>(
    rules: &DecodingRules,
    translator: &T,
    sources: &[&[u32]],
    options: &DecodeOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let encoded = translator.encode(sources)?;
    if encoded.len() != sources.len() {
        return Err(Error::Model(format!(
            "the encoder returned {} sentences; expected {}",
            encoded.len(),
            sources.len()
        )));
    }
    let start =
        |e: &Encoded<_>| LengthBeam::new(&e.length_prediction, options.length_beam, options.steps, rules);
    let mut beams = encoded.iter().map(start).collect::<Result<Vec<_>>>()?;
    while beams.iter().any(|beam| !beam.finished()) {
        let rows: Vec<_> = beams.iter().zip(&encoded).flat_map(|(b, e)| b.rows(&e.memory)).collect();
        let mut predictions = Vec::with_capacity(rows.len());
        for part in batches(&rows, |row: &Row<_>| row.canvas.len(), options.max_batch_tokens) {
            let of_part = translator.decode(part)?;
            if of_part.len() != part.len() {
                return Err(Error::Model(format!(
                    "the decoder returned {} rows; expected {}",
                    of_part.len(),
                    part.len()
                )));
            }
            predictions.extend(of_part);
        }
        let mut remaining = predictions.as_slice();
        let own = beams.iter_mut().map(|beam| {
            let (own, rest) = remaining.split_at(beam.unfinished().count());
            remaining = rest;
            (beam, own)
        });
        apply_all(own.collect()).into_iter().collect::<Result<()>>()?;
    }
    Ok(beams.into_iter().map(|beam| beam.finish(options.collapse)).collect())
}

/// Cuts `items` into runs whose count times longest length is within `budget`. A longer item makes its own run.
pub(super) fn batches<I>(
    items: &[I],
    length: impl Fn(&I) -> usize,
    budget: usize,
) -> impl Iterator<Item = &[I]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut longest = 0;
        let fits = |(i, item): &(usize, &I)| {
            longest = longest.max(length(item));
            (i + 1) * longest <= budget
        };
        let count = rest.iter().enumerate().take_while(fits).count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests;
