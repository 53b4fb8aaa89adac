//! What callers hold: [`Handle`] to submit sentences, [`Engine`] to end the model thread. Whether a request is admitted is
//! decided in `admission`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::coalesce::{Coalescer, Pending};
use super::degrade::Latencies;
use super::queued::Queued;
use super::shared::{Phase, Shared};
use super::{Item, Options, worker};
use crate::decode::{Limits, Translator};
use crate::metrics::EngineMetrics;
use crate::text::Specials;
use crate::{Error, Result};

/// Starts the model thread, which owns the translator from here on.
///
/// # Errors
/// [`Error::Config`] if a bound is zero or one sentence at the network's limits does not fit a batch;
/// [`Error::EngineDead`] if the system gives no thread.
pub fn start<T: Translator>(translator: T, options: Options, metrics: EngineMetrics) -> Result<Engine> {
    let limits = translator.limits();
    check(&options, limits)?;
    let specials = translator.specials();
    let shared = Arc::new(Shared::new(options, limits, metrics));
    let scraped = Arc::downgrade(&shared);
    let age = move || scraped.upgrade().map_or(Duration::ZERO, |shared| shared.oldest_age());
    shared.metrics.oldest_age_from(age);
    let at_work = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("tutti-model".into())
        .spawn(move || worker::supervise(translator, &at_work))
        .map_err(|error| Error::EngineDead(format!("no thread for the model: {error}")))?;
    let coalescer = Coalescer::new(shared.options.coalesce, shared.options.cache_bytes);
    Ok(Engine { handle: Handle { shared, coalescer }, specials, thread: Some(thread) })
}

fn check(options: &Options, limits: Limits) -> Result<()> {
    let longest = limits.source_tokens.saturating_add(limits.target_tokens);
    if options.max_batch_tokens < longest {
        return Err(Error::Config(format!(
            "max_batch_tokens is {}, but one sentence may take {longest} tokens on both sides",
            options.max_batch_tokens
        )));
    }
    let bounds = [
        ("max_queue_items", options.max_queue_items),
        ("max_queue_tokens", options.max_queue_tokens),
        ("max_batch_rows", options.max_batch_rows),
        ("lookahead", options.lookahead),
    ];
    match bounds.iter().find(|(_, bound)| *bound == 0) {
        Some((name, _)) => Err(Error::Config(format!("{name} must be at least 1"))),
        None => Ok(()),
    }
}

/// A running engine. Dropping it drains it, without waiting.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    specials: Specials,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub fn limits(&self) -> Limits {
        self.handle.limits()
    }

    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// Drains, and blocks until everything admitted is answered and the model thread has ended.
    ///
    /// # Errors
    /// [`Error::EngineDead`] if it died instead.
    pub fn join(mut self) -> Result<()> {
        self.handle.drain();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(Error::EngineDead("the model thread panicked".into()));
        }
        self.handle.end().unwrap_or(Ok(()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

/// The way into an engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    coalescer: Coalescer,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Handle {
    /// One admission decision for all items or none; one future for each, in order.
    ///
    /// A source without words (`bos eos`, or less) has the empty translation, in no steps.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for what could never be admitted, [`Error::QueueFull`] where there is no room now,
    /// [`Error::DeadlineUnreachable`] where there is, as far as can be told, no time before the deadline;
    /// [`Error::Draining`] after [`drain`](Self::drain), [`Error::EngineDead`] if the model thread died.
    pub fn submit(&self, items: Vec<Item>) -> Result<Vec<Pending>> {
        self.coalescer.submit(self, items)
    }

    /// How many of these, from the first on, to hand in at once: all, unless they are more than the queue ever holds;
    /// then no more than half of it, and at least one.
    pub fn fitting(&self, items: &[Item]) -> usize {
        let Options { max_queue_items, max_queue_tokens, .. } = self.shared.options;
        let within = |most_items: usize, most_tokens: usize| {
            let mut tokens = 0_usize;
            let fits = |item: &&Item| {
                tokens = tokens.saturating_add(self.shared.cost(item).shape.tokens());
                tokens <= most_tokens
            };
            items.iter().take(most_items).take_while(fits).count()
        };
        if within(max_queue_items, max_queue_tokens) == items.len() {
            return items.len();
        }
        within(max_queue_items / 2, max_queue_tokens / 2).max(1)
    }

    /// As [`submit`](Self::submit), each item for itself.
    pub(super) fn queue(&self, items: Vec<Item>) -> Result<Vec<Queued>> {
        let now = Instant::now();
        let count = items.len();
        self.admit(items, now).inspect_err(|error| self.count(error, count))
    }

    pub(super) fn metrics(&self) -> &EngineMetrics {
        &self.shared.metrics
    }

    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Tokens that the queue holds.
    pub fn max_queue_tokens(&self) -> usize {
        self.shared.options.max_queue_tokens
    }

    /// Takes what was measured on the idle engine, for requests with a deadline.
    pub fn calibrate(&self, latencies: Latencies) {
        self.shared.lock().latencies = latencies;
    }

    pub fn latencies(&self) -> Latencies {
        self.shared.lock().latencies.clone()
    }

    /// Refuses new items from now on; what was admitted is answered, then the model thread ends.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The model thread runs: it has neither ended nor died.
    pub fn is_alive(&self) -> bool {
        !matches!(self.shared.lock().phase, Phase::Stopped(_))
    }

    /// How long ago the model thread last went from one pass to the next; zero while it waits for work.
    pub fn heartbeat(&self) -> Duration {
        self.shared.since_beat()
    }

    /// Items admitted and not yet picked up.
    pub fn queue_depth(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Resolves when the model thread has ended, everybody being answered.
    ///
    /// # Errors
    /// [`Error::EngineDead`] if it died: this process should end.
    pub async fn stopped(&self) -> Result<()> {
        let mut stopped = self.shared.stopped.subscribe();
        // The sender lives as long as this handle, so that the wait itself cannot fail.
        let _ = stopped.wait_for(Option::is_some).await;
        self.end().unwrap_or(Ok(()))
    }

    fn end(&self) -> Option<Result<()>> {
        match &self.shared.lock().phase {
            Phase::Stopped(None) => Some(Ok(())),
            Phase::Stopped(Some(reason)) => Some(Err(Error::EngineDead(reason.clone()))),
            Phase::Open | Phase::Draining => None,
        }
    }
}
