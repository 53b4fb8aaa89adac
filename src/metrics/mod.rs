//! Every Prometheus series, typed and registered once; nobody else writes a metric's name.
//!
//! [`Metrics`] owns a registry of its own, so that tests and several servers in one process do not
//! share numbers. [`HttpMetrics`] is what the network side counts with, [`EngineMetrics`] what one
//! model counts with; both are cheap clones. Labels are bounded: a route comes from the router's
//! table, a model from the settings, never from a caller. Every labelled series stands at 0 from the
//! start, so that a rate over it is right from the first event on.
//!
//! Knows nothing of what it counts: no engine, no HTTP types.

mod families;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use families::{Families, register};

/// The statuses that the server answers with; any other one is counted as `other`.
const CODES: [u16; 15] = [200, 204, 304, 400, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504];
const OTHER: &str = "other";

/// Why a sentence was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    QueueFull,
    TooLong,
    Deadline,
    Cancelled,
    Draining,
    Memory,
    /// The network answered with an error.
    Failed,
}

impl Rejected {
    const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::TooLong,
        Self::Deadline,
        Self::Cancelled,
        Self::Draining,
        Self::Memory,
        Self::Failed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLong => "too_long",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Draining => "draining",
            Self::Memory => "memory",
            Self::Failed => "failed",
        }
    }
}

/// The two kinds of work that a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Encode,
    Decode,
}

/// All series of one process, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    rejected: Arc<[IntCounter]>,
    engines: Mutex<Vec<EngineMetrics>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh registry with every family in it.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Arc::new(Families::register(&registry));
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        families.ready.set(0);
        let rejected = Rejected::ALL.map(|reason| families.rejected.with_label_values(&[reason.label()]));
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        Self { registry, families, rejected: rejected.into(), engines: Mutex::default() }
    }

    /// What the network side counts with. `routes` are the paths of the router, as patterns; a
    /// request for anything else is counted under `other`.
    pub fn http(&self, routes: &[&str]) -> HttpMetrics {
        for route in routes.iter().copied().chain([OTHER]) {
            for code in CODES.iter().map(u16::to_string).chain([OTHER.to_owned()]) {
                self.families.requests.with_label_values(&[route, &code]);
            }
            self.families.request_seconds.with_label_values(&[route]);
        }
        let routes = routes.iter().map(|&route| route.into()).collect();
        HttpMetrics { families: self.families.clone(), rejected: self.rejected.clone(), routes }
    }

    /// What one model counts with; the same series again if asked twice for one name.
    pub fn engine(&self, model: &str) -> EngineMetrics {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = engines.iter().find(|known| *known.model == *model) {
            return known.clone();
        }
        let engine = EngineMetrics::new(&self.families, &self.rejected, model);
        engines.push(engine.clone());
        engine
    }

    /// All series in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        for engine in self.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            engine.refresh();
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }
}

/// Counts on the network side; cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    families: Arc<Families>,
    rejected: Arc<[IntCounter]>,
    routes: Arc<[Box<str>]>,
}

impl HttpMetrics {
    /// One answered request. A `route` that [`Metrics::http`] was not told of counts as `other`.
    pub fn request(&self, route: &str, code: u16, duration: Duration) {
        let route = if self.routes.iter().any(|known| **known == *route) { route } else { OTHER };
        let number = code.to_string();
        let code = if CODES.contains(&code) { number.as_str() } else { OTHER };
        self.families.requests.with_label_values(&[route, code]).inc();
        self.families.request_seconds.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// Counts sentences turned away before they reached an engine (which counts its own).
    pub fn rejected(&self, reason: Rejected, items: usize) {
        if let Some(counter) = self.rejected.get(reason as usize) {
            counter.inc_by(items as u64);
        }
    }

    /// Whether `/readyz` says yes.
    pub fn set_ready(&self, ready: bool) {
        self.families.ready.set(i64::from(ready));
    }
}

/// What may have to be done for a translation: labels of `tutti_text_repairs_total`.
const REPAIRS: [&str; 5] = ["again", "split", "short", "long", "uncertain"];

type AgeSource = Box<dyn Fn() -> Duration + Send + Sync>;

/// Counts for one model; cheap to clone.
#[derive(Clone)]
pub struct EngineMetrics {
    model: Arc<str>,
    families: Arc<Families>,
    rejected: Arc<[IntCounter]>,
    queue_depth: IntGauge,
    running_items: IntGauge,
    tokenizing_items: IntGauge,
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
    fn new(families: &Arc<Families>, rejected: &Arc<[IntCounter]>, model: &str) -> Self {
        for side in ["source", "target"] {
            for kind in ["real", "padding"] {
                families.tokens.with_label_values(&[model, side, kind]);
            }
        }
        for pass in [Pass::Encode, Pass::Decode] {
            families.busy.with_label_values(&[model, pass.label()]);
            families.passes.with_label_values(&[model, pass.label()]);
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

    /// What is loaded, once known.
    pub fn describe(&self, checksum: &str, dtype: &str, device: &str) {
        let described = [checksum, dtype, device].map(str::to_owned);
        let mut before = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([checksum, dtype, device]) = before.take().filter(|before| *before != described) {
            // A model of this name was loaded again; that there is no such series is fine.
            let _ = self.families.model_info.remove_label_values(&[&*self.model, &checksum, &dtype, &device]);
        }
        *before = Some(described);
        self.families.model_info.with_label_values(&[&*self.model, checksum, dtype, device]).set(1);
    }

    pub fn warmed_up(&self, duration: Duration) {
        self.warmup.set(duration.as_secs_f64());
    }

    /// Hold this while an item is admitted and not yet picked up by the model thread.
    pub fn queued(&self) -> Counted {
        Counted::new(&self.queue_depth, 1)
    }

    /// Hold this while an item is picked up and not finished.
    pub fn running(&self) -> Counted {
        Counted::new(&self.running_items, 1)
    }

    /// Hold this while `items` sentences are being tokenized or wait for it.
    pub fn tokenizing(&self, items: usize) -> Counted {
        Counted::new(&self.tokenizing_items, items)
    }

    /// How `tutti_queue_oldest_age_seconds` is found when somebody scrapes.
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

    /// What had to be done for a translation, by its name in `REPAIRS`.
    pub fn repaired(&self, kind: &str, count: usize) {
        let counter = REPAIRS.iter().position(|&name| name == kind).and_then(|at| self.repairs.get(at));
        if let Some(counter) = counter {
            counter.inc_by(count as u64);
        }
    }

    /// An item left the queue for the model after `wait`.
    pub fn picked_up(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// The device had too little memory so many times; each time less was asked of it at once.
    pub fn out_of_memory(&self, times: usize) {
        self.out_of_memory.inc_by(times as u64);
    }

    /// So many sentences share the translation of another one.
    pub fn coalesced(&self, sentences: usize) {
        self.coalesced.inc_by(sentences as u64);
    }

    /// A sentence was looked up in the cache.
    pub fn cache(&self, hit: bool) {
        self.cache[usize::from(hit)].inc();
    }

    /// So many sentences get fewer steps than they asked for, because of the deadline or else because of load.
    pub fn lowered(&self, by_deadline: bool, sentences: usize) {
        self.lowered[usize::from(by_deadline)].inc_by(sentences as u64);
    }

    /// How often steps are halved because of load.
    pub fn degrade_level(&self, level: u32) {
        self.degrade_level.set(level.into());
    }

    /// One call of the encoder: `real` tokens in a rectangle of `padded`.
    pub fn encoded(&self, real: usize, padded: usize, duration: Duration) {
        self.encode_seconds.observe(duration.as_secs_f64());
        self.count_tokens("source", real, padded);
        self.count_pass(Pass::Encode, duration);
    }

    /// One decoder pass over `rows` canvases: `real` target tokens in a rectangle of `padded`;
    /// `both_sides` is the rectangle with the sources in it, which is what the budget bounds.
    pub fn decoded(&self, rows: usize, real: usize, padded: usize, both_sides: usize, duration: Duration) {
        self.pass_seconds.observe(duration.as_secs_f64());
        self.batch_rows.observe(rows as f64);
        self.batch_padded_tokens.observe(both_sides as f64);
        self.count_tokens("target", real, padded);
        self.count_pass(Pass::Decode, duration);
    }

    /// An item was answered after so many decoder passes.
    pub fn finished(&self, steps: usize) {
        self.steps_used.observe(steps as f64);
    }

    fn count_tokens(&self, side: &str, real: usize, padded: usize) {
        let tokens = &self.families.tokens;
        tokens.with_label_values(&[&*self.model, side, "real"]).inc_by(real as u64);
        let padding = padded.saturating_sub(real) as u64;
        tokens.with_label_values(&[&*self.model, side, "padding"]).inc_by(padding);
    }

    fn count_pass(&self, pass: Pass, duration: Duration) {
        let labels = [&*self.model, pass.label()];
        self.families.passes.with_label_values(&labels).inc();
        self.families.busy.with_label_values(&labels).inc_by(duration.as_secs_f64());
    }

    fn refresh(&self) {
        let source = self.oldest_age_source.lock().unwrap_or_else(PoisonError::into_inner);
        let age = source.as_ref().map_or(Duration::ZERO, |age| age());
        self.oldest_age.set(age.as_secs_f64());
    }
}

impl Pass {
    fn label(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
        }
    }
}

/// Counts in a gauge for as long as it lives: such a gauge cannot drift.
#[derive(Debug)]
#[must_use = "the gauge goes down again when this is dropped"]
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
