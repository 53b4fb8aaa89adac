//! What is counted for the work of one model.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::Rejected;
use super::families::Families;

/// The two kinds of calls of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkCall {
    Encode,
    Decode,
}

impl NetworkCall {
    fn label(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
        }
    }
}

/// The values of label `kind` of `tutti_text_repairs_total`.
const REPAIRS: [&str; 5] = ["again", "split", "short", "long", "uncertain"];

type AgeSource = Box<dyn Fn() -> Duration + Send + Sync>;

/// The metrics of one model; cheap to clone.
#[derive(Clone)]
pub struct EngineMetrics {
    pub(super) model: Arc<str>,
    families: Arc<Families>,
    rejected: Arc<[IntCounter]>,
    queue_depth: IntGauge,
    running_items: IntGauge,
    pub(super) tokenizing_items: IntGauge,
    oldest_age: Gauge,
    oldest_age_source: Arc<Mutex<Option<AgeSource>>>,
    queue_wait: Histogram,
    tokenize_seconds: Histogram,
    encode_seconds: Histogram,
    pass_seconds: Histogram,
    batch_rows: Histogram,
    batch_padded_tokens: Histogram,
    steps_used: Histogram,
    warmup: Gauge,
    out_of_memory: IntCounter,
    /// In the order of [`REPAIRS`].
    repairs: Arc<[IntCounter]>,
    coalesced: IntCounter,
    cache: [IntCounter; 2],
    lowered: [IntCounter; 2],
    degrade_level: IntGauge,
    described: Arc<Mutex<Option<[String; 3]>>>,
}

impl fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineMetrics").field("model", &self.model).finish_non_exhaustive()
    }
}

impl EngineMetrics {
    pub(super) fn new(families: &Arc<Families>, rejected: &Arc<[IntCounter]>, model: &str) -> Self {
        for side in ["source", "target"] {
            for kind in ["real", "padding"] {
                families.tokens.with_label_values(&[model, side, kind]);
            }
        }
        for call in [NetworkCall::Encode, NetworkCall::Decode] {
            families.busy.with_label_values(&[model, call.label()]);
            families.passes.with_label_values(&[model, call.label()]);
        }
        let label = &[model];
        Self {
            model: model.into(),
            families: families.clone(),
            rejected: rejected.clone(),
            queue_depth: families.queue_depth.with_label_values(label),
            running_items: families.running_items.with_label_values(label),
            tokenizing_items: families.tokenizing_items.with_label_values(label),
            oldest_age: families.oldest_age.with_label_values(label),
            oldest_age_source: Arc::default(),
            queue_wait: families.queue_wait.with_label_values(label),
            tokenize_seconds: families.tokenize_seconds.with_label_values(label),
            encode_seconds: families.encode_seconds.with_label_values(label),
            pass_seconds: families.pass_seconds.with_label_values(label),
            batch_rows: families.batch_rows.with_label_values(label),
            batch_padded_tokens: families.batch_padded_tokens.with_label_values(label),
            steps_used: families.steps_used.with_label_values(label),
            warmup: families.warmup.with_label_values(label),
            out_of_memory: families.out_of_memory.with_label_values(label),
            repairs: REPAIRS.map(|kind| families.repairs.with_label_values(&[model, kind])).into(),
            coalesced: families.coalesced.with_label_values(label),
            cache: ["miss", "hit"].map(|result| families.cache.with_label_values(&[model, result])),
            lowered: ["load", "deadline"].map(|reason| families.lowered.with_label_values(&[model, reason])),
            degrade_level: families.degrade_level.with_label_values(label),
            described: Arc::default(),
        }
    }

    /// Sets the labels of `tutti_model_info`.
    pub fn describe(&self, checksum: &str, dtype: &str, device: &str) {
        let described = [checksum, dtype, device].map(str::to_owned);
        let mut before = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([checksum, dtype, device]) = before.take().filter(|before| *before != described) {
            // A model of this name was replaced. A missing series is no error.
            let _ = self.families.model_info.remove_label_values(&[&*self.model, &checksum, &dtype, &device]);
        }
        *before = Some(described);
        self.families.model_info.with_label_values(&[&*self.model, checksum, dtype, device]).set(1);
    }

    pub fn warmed_up(&self, duration: Duration) {
        self.warmup.set(duration.as_secs_f64());
    }

    /// Counts an item as queued until the guard is dropped: from its admission until the model thread takes it.
    pub fn queued(&self) -> Counted {
        Counted::new(&self.queue_depth, 1)
    }

    /// Counts an item as running until the guard is dropped: from when the model thread takes it until it is finished.
    pub fn running(&self) -> Counted {
        Counted::new(&self.running_items, 1)
    }

    /// Counts `items` texts as waiting for the tokenizer or being tokenized, until the guard is dropped.
    pub fn tokenizing(&self, items: usize) -> Counted {
        Counted::new(&self.tokenizing_items, items)
    }

    /// Sets the function that computes `tutti_queue_oldest_age_seconds` when the metrics are rendered.
    pub fn oldest_age_from(&self, source: impl Fn() -> Duration + Send + Sync + 'static) {
        *self.oldest_age_source.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(source));
    }

    pub fn rejected(&self, reason: Rejected, items: usize) {
        if let Some(counter) = self.rejected.get(reason as usize) {
            counter.inc_by(items as u64);
        }
    }

    pub fn tokenized(&self, duration: Duration) {
        self.tokenize_seconds.observe(duration.as_secs_f64());
    }

    /// Counts repairs of a translation; `kind` is one of `REPAIRS`.
    pub fn repaired(&self, kind: &str, count: usize) {
        let counter = REPAIRS.iter().position(|&name| name == kind).and_then(|at| self.repairs.get(at));
        if let Some(counter) = counter {
            counter.inc_by(count as u64);
        }
    }

    /// Counts an item that the model thread took from the queue after `wait`.
    pub fn picked_up(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// Counts how often the device had too little memory and the work was made smaller.
    pub fn out_of_memory(&self, times: usize) {
        self.out_of_memory.inc_by(times as u64);
    }

    /// Counts sentences that share the translation of another one.
    pub fn coalesced(&self, sentences: usize) {
        self.coalesced.inc_by(sentences as u64);
    }

    /// Counts a look-up in the cache.
    pub fn cache(&self, hit: bool) {
        self.cache[usize::from(hit)].inc();
    }

    /// Counts sentences that get fewer steps than requested, because of their deadline or because of load.
    pub fn lowered(&self, by_deadline: bool, sentences: usize) {
        self.lowered[usize::from(by_deadline)].inc_by(sentences as u64);
    }

    /// Sets how often steps are halved because of load.
    pub fn degrade_level(&self, level: u32) {
        self.degrade_level.set(level.into());
    }

    /// Counts a call of the encoder: `real` tokens, `padded` tokens with padding.
    pub fn encoded(&self, real: usize, padded: usize, duration: Duration) {
        self.encode_seconds.observe(duration.as_secs_f64());
        self.count_tokens("source", real, padded);
        self.count_call(NetworkCall::Encode, duration);
    }

    /// Counts a decoder pass over `rows` canvases: `real` target tokens, `padded` with padding, `both_sides` with
    /// padding and the sources, which is the number that the batch's budget limits.
    pub fn decoded(&self, rows: usize, real: usize, padded: usize, both_sides: usize, duration: Duration) {
        self.pass_seconds.observe(duration.as_secs_f64());
        self.batch_rows.observe(rows as f64);
        self.batch_padded_tokens.observe(both_sides as f64);
        self.count_tokens("target", real, padded);
        self.count_call(NetworkCall::Decode, duration);
    }

    /// Counts an item that was answered after `steps` decoder passes.
    pub fn finished(&self, steps: usize) {
        self.steps_used.observe(steps as f64);
    }

    fn count_tokens(&self, side: &str, real: usize, padded: usize) {
        let tokens = &self.families.tokens;
        tokens.with_label_values(&[&*self.model, side, "real"]).inc_by(real as u64);
        let padding = padded.saturating_sub(real) as u64;
        tokens.with_label_values(&[&*self.model, side, "padding"]).inc_by(padding);
    }

    fn count_call(&self, call: NetworkCall, duration: Duration) {
        let labels = [&*self.model, call.label()];
        self.families.passes.with_label_values(&labels).inc();
        self.families.busy.with_label_values(&labels).inc_by(duration.as_secs_f64());
    }

    pub(super) fn refresh(&self) {
        let source = self.oldest_age_source.lock().unwrap_or_else(PoisonError::into_inner);
        let age = source.as_ref().map_or(Duration::ZERO, |age| age());
        self.oldest_age.set(age.as_secs_f64());
    }
}

/// Adds to a gauge, and subtracts the same when it is dropped, so that the gauge cannot drift.
#[derive(Debug)]
#[must_use = "the gauge is decreased when this is dropped"]
pub struct Counted {
    gauge: IntGauge,
    by: i64,
}

impl Counted {
    fn new(gauge: &IntGauge, by: usize) -> Self {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        gauge.add(by);
        Self { gauge: gauge.clone(), by }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.sub(self.by);
    }
}
