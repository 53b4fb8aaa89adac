//! Measures the speed of the engine without HTTP and text. Sources are random, and the target length is forced, so
//! that the work does not depend on the weights.
//!
//! Latency is the time of a single sentence from submission to answer. Throughput is measured with a full engine:
//! twice as many sentences are queued as fit a batch. With [`Until::Repeated`], batches follow each other instead, so
//! that every run computes the same passes.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::decode::{Encoded, Limits, Prediction, Row, Steps, Translator};
use crate::engine::{self, Handle, Item, Pending};
use crate::metrics::Metrics;
use crate::model::{LanguageModel, LengthPrediction, Refresh};
use crate::text::Specials;
use crate::{Error, Result};

/// Too few samples make the 90th percentile meaningless.
const LEAST_SAMPLES: usize = 10;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Inner tokens of source and target, without bos and eos.
    pub lengths: Vec<(usize, usize)>,
    /// Each is measured with each pair of lengths.
    pub steps: Vec<Steps>,
    pub length_beam: usize,
    /// Sentences of a batch, for the throughput.
    pub batch: usize,
    /// When each measurement ends. Every pair of lengths and number of steps takes two: latency and throughput.
    pub until: Until,
    /// Number of compute threads.
    pub threads: NonZeroUsize,
    /// Source ids are drawn from `5..vocabulary`.
    pub vocabulary: u32,
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time, and a warm-up.
    Elapsed(Duration),
    /// After this many sentences one by one, then this many full batches one by one, without a warm-up. What is
    /// computed does not depend on time, so instructions can be counted.
    Repeated(NonZeroUsize),
}

/// One row of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub source_tokens: usize,
    pub target_tokens: usize,
    pub steps: Steps,
    pub length_beam: usize,
    /// For a sentence on its own.
    pub latency_p50_ms: f64,
    pub latency_p90_ms: f64,
    pub latency_samples: usize,
    pub batch: usize,
    pub sentences_per_second: f64,
    pub target_tokens_per_second: f64,
}

/// Measures every pair of lengths with every number of steps. `network` is called once for each pair; `each` after
/// each measurement.
///
/// # Errors
/// [`Error::Config`] for a plan beyond the network's limits, and the errors of the network.
pub fn run<T: Translator>(
    plan: &Plan,
    mut network: impl FnMut() -> Result<T>,
    mut each: impl FnMut(&Measurement),
) -> Result<Vec<Measurement>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Config(format!("no runtime: {e}")))?;
    let mut measurements = Vec::new();
    for &(source, target) in &plan.lengths {
        let network = network()?;
        check(plan, source, target, network.limits())?;
        let longest = network.limits().source_tokens + network.limits().target_tokens;
        let rows = plan.batch * plan.length_beam;
        let options = engine::Options {
            threads: plan.threads,
            max_queue_items: 4 * plan.batch,
            max_queue_tokens: usize::MAX,
            max_batch_rows: rows,
            // Rows bind, not tokens; and the engine wants room for the longest sentence.
            max_batch_tokens: rows * longest,
            lookahead: engine::Options::default().lookahead.max(plan.batch),
            ..engine::Options::default()
        };
        let metrics = Metrics::new().engine("bench");
        let engine = engine::start(ForcedLength { network, target }, options, metrics)?;
        let mut load = Load::new(engine.handle(), plan, source);
        for &steps in &plan.steps {
            let mut latencies = runtime.block_on(load.latencies(steps))?;
            let per_second = runtime.block_on(load.throughput(steps))?;
            latencies.sort();
            let measurement = Measurement {
                source_tokens: source,
                target_tokens: target,
                steps,
                length_beam: plan.length_beam,
                latency_p50_ms: percentile_ms(&latencies, 50),
                latency_p90_ms: percentile_ms(&latencies, 90),
                latency_samples: latencies.len(),
                batch: plan.batch,
                sentences_per_second: per_second,
                target_tokens_per_second: per_second * target as f64,
            };
            each(&measurement);
            measurements.push(measurement);
        }
        load.handle.drain();
        engine.join()?;
    }
    Ok(measurements)
}

fn check(plan: &Plan, source: usize, target: usize, limits: Limits) -> Result<()> {
    let wrong = |what: &str| Err(Error::Config(format!("bench: {what}")));
    match () {
        () if plan.batch == 0 || plan.length_beam == 0 => wrong("batch and length beam must be at least 1"),
        () if plan.vocabulary <= 5 => wrong("a vocabulary needs more than the five special tokens"),
        () if source == 0 || target == 0 => wrong("sentences need at least one token"),
        () if limits.has_blanks && target != source => {
            wrong("an imputer's slots follow from its source: leave the target out")
        }
        () if source + 2 > limits.source_tokens => wrong("the source is longer than the network's limit"),
        () if target + 2 > limits.target_tokens => wrong("the target is longer than the network's limit"),
        () => Ok(()),
    }
}

/// Submits random sources to an engine.
struct Load<'a> {
    handle: Handle,
    plan: &'a Plan,
    source_tokens: usize,
    random: ChaCha8Rng,
}

impl<'a> Load<'a> {
    fn new(handle: Handle, plan: &'a Plan, source_tokens: usize) -> Self {
        Self { handle, plan, source_tokens, random: ChaCha8Rng::seed_from_u64(1) }
    }

    fn submit(&mut self, steps: Steps) -> Result<Pending> {
        let item = self.item(steps);
        let pending = self.handle.submit(vec![item])?;
        pending.into_iter().next().ok_or_else(|| Error::EngineDead("no answer to wait for".into()))
    }

    /// A random sentence.
    fn item(&mut self, steps: Steps) -> Item {
        let Specials { bos, eos, .. } = Specials::default();
        let words = (0..self.source_tokens).map(|_| self.random.random_range(5..self.plan.vocabulary));
        Item {
            source: std::iter::once(bos).chain(words).chain([eos]).collect(),
            steps,
            steps_min: steps,
            length_beam: self.plan.length_beam,
            alternatives: 0,
            collapse: false,
            trace: false,
            deadline: None,
            watch: None,
            schedule: false,
        }
    }

    /// Translates one sentence after the other. A tenth of the time is a warm-up.
    async fn latencies(&mut self, steps: Steps) -> Result<Vec<Duration>> {
        let (until, begun) = (self.plan.until, Instant::now());
        while matches!(until, Until::Elapsed(time) if begun.elapsed() < time / 10) {
            self.submit(steps)?.await?;
        }
        let begun = Instant::now();
        let unfinished = |samples: usize| match until {
            Until::Elapsed(time) => begun.elapsed() < time || samples < LEAST_SAMPLES,
            Until::Repeated(repeats) => samples < repeats.get(),
        };
        let mut latencies = Vec::new();
        while unfinished(latencies.len()) {
            let submitted = Instant::now();
            self.submit(steps)?.await?;
            latencies.push(submitted.elapsed());
        }
        Ok(latencies)
    }

    /// Sentences per second.
    async fn throughput(&mut self, steps: Steps) -> Result<f64> {
        match self.plan.until {
            Until::Elapsed(time) => self.full_engine(steps, time).await,
            Until::Repeated(repeats) => self.batches(steps, repeats).await,
        }
    }

    /// Sentences per second of batches, each submitted when the one before is done. All sentences of a batch are
    /// submitted together, so they share their passes.
    async fn batches(&mut self, steps: Steps, repeats: NonZeroUsize) -> Result<f64> {
        let begun = Instant::now();
        for _ in 0..repeats.get() {
            let batch = (0..self.plan.batch).map(|_| self.item(steps)).collect();
            for pending in self.handle.submit(batch)? {
                pending.await?;
            }
        }
        Ok(repeats.get() as f64 * self.plan.batch as f64 / begun.elapsed().as_secs_f64())
    }

    /// Sentences per second of an engine with a full queue, from the moment the first batch is done.
    async fn full_engine(&mut self, steps: Steps, time: Duration) -> Result<f64> {
        let mut waiting = VecDeque::new();
        for _ in 0..2 * self.plan.batch {
            waiting.push_back(self.submit(steps)?);
        }
        let mut begun = Instant::now();
        let mut done = 0;
        // All sentences take the same number of passes, so the oldest finishes first.
        while let Some(oldest) = waiting.pop_front() {
            oldest.await?;
            done += 1;
            if done == self.plan.batch {
                begun = Instant::now();
            }
            if done < 2 * self.plan.batch || begun.elapsed() < time {
                waiting.push_back(self.submit(steps)?);
            } else {
                break;
            }
        }
        let per_second = (done - self.plan.batch) as f64 / begun.elapsed().as_secs_f64();
        for pending in waiting {
            pending.await?;
        }
        Ok(per_second)
    }
}

/// The percentile of sorted durations, by the nearest-rank method.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
}

/// A network whose predicted length is always `target`. An Imputer's number of slots stays as it is.
struct ForcedLength<T> {
    network: T,
    target: usize,
}

impl<T: Translator> Translator for ForcedLength<T> {
    type Memory = T::Memory;

    fn limits(&self) -> Limits {
        self.network.limits()
    }

    fn specials(&self) -> Specials {
        self.network.specials()
    }

    fn refresh(&self) -> Refresh {
        self.network.refresh()
    }

    fn lm(&self) -> Option<&Arc<LanguageModel>> {
        self.network.lm()
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<T::Memory>>> {
        let lengths = self.limits().target_tokens.saturating_sub(1);
        let log_prob = |length: usize| match length {
            0 => f32::NEG_INFINITY,
            _ => -(length.abs_diff(self.target) as f32),
        };
        let mut encoded = self.network.encode(sources)?;
        for sentence in &mut encoded {
            if let LengthPrediction::Lengths(known) = &mut sentence.length_prediction {
                *known = (0..lengths).map(log_prob).collect();
            }
        }
        Ok(encoded)
    }

    fn decode(&self, rows: &[Row<'_, T::Memory>]) -> Result<Vec<Vec<Prediction>>> {
        self.network.decode(rows)
    }
}

#[cfg(test)]
mod tests;
