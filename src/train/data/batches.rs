//! Groups sentences of similar lengths into batches of a bounded number of padded tokens.
//!
//! The plan of an epoch is a pure function of lengths, budget, seed and epoch: shuffle, sort by length with a little
//! noise, cut into batches within the budget, shuffle the batches. So the position in the data is just two numbers,
//! [`Position`], which is all that a resumed run needs. This module knows neither tokens nor tensors.

use serde::{Deserialize, Serialize};

use crate::train::rng::Rng;
use crate::{Error, Result};

/// Lengths of a pair in tokens, bos and eos included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairLengths {
    pub source: usize,
    pub target: usize,
}

impl PairLengths {
    fn longest(self) -> usize {
        self.source.max(self.target)
    }

    /// The larger of both lengths on each side.
    fn cover(self, other: Self) -> Self {
        Self { source: self.source.max(other.source), target: self.target.max(other.target) }
    }
}

/// The position of the next batch: number `index` of epoch `epoch`, both from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub epoch: u64,
    pub index: usize,
}

/// The batches of one epoch, in training order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Indices of pairs. Each pair is in exactly one batch.
    pub batches: Vec<Vec<usize>>,
    /// Source and target tokens without padding.
    pub real_tokens: usize,
    /// Source and target tokens after padding each side to the longest of its batch.
    pub padded_tokens: usize,
}

impl BatchPlan {
    /// Plans epoch `epoch`: rows × max(longest source, longest target) ≤ `max_tokens` in each batch. `rng` is the
    /// run's root generator; only its seed matters.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no pairs, or a pair exceeds `max_tokens`.
    pub fn new(lengths: &[PairLengths], max_tokens: usize, rng: &Rng, epoch: u64) -> Result<Self> {
        if lengths.is_empty() {
            return Err(Error::Config("no sentence pairs to make batches of".into()));
        }
        if let Some((pair, l)) = lengths.iter().enumerate().find(|(_, l)| l.longest() > max_tokens) {
            let size = l.longest();
            return Err(Error::Config(format!(
                "pair {pair} (from 0) has {size} tokens, more than a whole batch ({max_tokens})"
            )));
        }
        let mut rng = rng.fork("batches", epoch);
        let mut batches = cut(lengths, &sorted_with_noise(lengths, &mut rng), max_tokens);
        rng.shuffle(&mut batches);
        let real_tokens = lengths.iter().map(|l| l.source + l.target).sum();
        let padded_tokens = batches.iter().map(|batch| padded(lengths, batch)).sum();
        Ok(Self { batches, real_tokens, padded_tokens })
    }

    /// Share of the computed tokens that are padding, 0 to 1.
    pub fn padding_share(&self) -> f64 {
        1.0 - self.real_tokens as f64 / self.padded_tokens.max(1) as f64
    }
}

/// Sorts pairs by length: by the longer side, which determines the budget and counts as one longer for a random
/// quarter of the pairs, then by each side. Noise and shuffling give each epoch different batches.
fn sorted_with_noise(lengths: &[PairLengths], rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    rng.shuffle(&mut order);
    let mut keyed: Vec<((usize, usize, usize), usize)> = order
        .into_iter()
        .map(|pair| {
            let l = lengths[pair];
            let bucket = l.longest() + usize::from(rng.below(4) == 0);
            ((bucket, l.source, l.target), pair)
        })
        .collect();
    keyed.sort_by_key(|&(key, _)| key); // stable: equal lengths stay shuffled
    keyed.into_iter().map(|(_, pair)| pair).collect()
}

fn cut(lengths: &[PairLengths], order: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut batches = Vec::new();
    let mut batch: Vec<usize> = Vec::new();
    let mut longest = 0;
    for &pair in order {
        let with = longest.max(lengths[pair].longest());
        if (batch.len() + 1) * with > max_tokens {
            batches.push(std::mem::take(&mut batch));
            longest = lengths[pair].longest();
        } else {
            longest = with;
        }
        batch.push(pair);
    }
    batches.push(batch);
    batches
}

fn padded(lengths: &[PairLengths], batch: &[usize]) -> usize {
    let none = PairLengths { source: 0, target: 0 };
    let longest = batch.iter().fold(none, |longest, &pair| longest.cover(lengths[pair]));
    batch.len() * (longest.source + longest.target)
}

/// An endless sequence of batches through all epochs, from any position.
pub struct Batches {
    lengths: Vec<PairLengths>,
    max_tokens: usize,
    rng: Rng,
    plan: BatchPlan,
    position: Position,
}

impl Batches {
    /// Starts at `position`, as if all batches before it had been taken.
    ///
    /// # Errors
    /// As [`BatchPlan::new`], and for an index after the end of its epoch, which means that data or budget have changed.
    pub fn new(lengths: Vec<PairLengths>, max_tokens: usize, rng: &Rng, position: Position) -> Result<Self> {
        let plan = BatchPlan::new(&lengths, max_tokens, rng, position.epoch)?;
        if position.index > plan.batches.len() {
            return Err(Error::Config(format!(
                "the run stopped at batch {} of an epoch, but an epoch has {} batches: data or batch_tokens have changed",
                position.index,
                plan.batches.len()
            )));
        }
        Ok(Self { lengths, max_tokens, rng: rng.clone(), plan, position })
    }

    /// The next batch, as indices of pairs.
    pub fn next_batch(&mut self) -> Result<&[usize]> {
        if self.position.index == self.plan.batches.len() {
            let epoch = self.position.epoch + 1;
            self.plan = BatchPlan::new(&self.lengths, self.max_tokens, &self.rng, epoch)?;
            self.position = Position { epoch, index: 0 };
        }
        let batch = &self.plan.batches[self.position.index];
        self.position.index += 1;
        Ok(batch)
    }

    /// The position of the next batch; stored in checkpoints.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The plan of the current epoch.
    pub fn plan(&self) -> &BatchPlan {
        &self.plan
    }
}

#[cfg(test)]
mod tests;
