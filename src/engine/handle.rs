//! The API for callers: [`Handle`] submits sentences, [`Engine`] ends the model thread. `admission` decides
//! whether a request is admitted.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::admission::Submitter;
use super::coalesce::{Coalescer, Pending};
use super::degrade::Latencies;
use super::shared::{EnginePhase, Shared};
use super::{AdmissionEstimate, Item, Options, worker};
use crate::decode::{Limits, Translator};
use crate::metrics::EngineMetrics;
use crate::text::Specials;
use crate::{Error, Result};

/// Starts the model thread and moves the translator to it.
///
/// # Errors
/// [`Error::Config`] if a bound is zero or one sentence at the network's limits does not fit a batch;
/// [`Error::EngineDead`] if the thread cannot be started.
pub fn start<T: Translator>(translator: T, options: Options, metrics: EngineMetrics) -> Result<Engine> {
    let limits = translator.limits();
    check(&options, limits)?;
    let specials = translator.specials();
    let shared = Arc::new(Shared::new(options, limits, metrics));
    let weak = Arc::downgrade(&shared);
    let age = move || weak.upgrade().map_or(Duration::ZERO, |shared| shared.oldest_age());
    shared.metrics.oldest_age_from(age);
    let of_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("tutti-model".into())
        .spawn(move || worker::supervise(translator, &of_thread))
        .map_err(|error| Error::EngineDead(format!("the model thread cannot be started: {error}")))?;
    let coalescer = Coalescer::new(shared.options.coalesce, shared.options.cache_bytes);
    Ok(Engine {
        handle: Handle { submitter: Submitter { shared }, coalescer },
        specials,
        thread: Some(thread),
    })
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

/// A running engine. Dropping it starts to drain it without waiting for the end.
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
    /// [`Error::EngineDead`] if the thread died.
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

/// Submits sentences to an engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    submitter: Submitter,
    coalescer: Coalescer,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("options", &self.submitter.shared.options).finish_non_exhaustive()
    }
}

impl Handle {
    /// Admits all items or none. Returns one future for each item, in order.
    ///
    /// A source without words (`bos eos`, or less) has the empty translation, in no steps.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a request that can never be admitted, [`Error::QueueFull`] if there is no room now,
    /// [`Error::DeadlineUnreachable`] if it would likely miss its deadline, [`Error::Draining`] after
    /// [`drain`](Self::drain), [`Error::EngineDead`] if the model thread died.
    pub fn submit(&self, items: Vec<Item>) -> Result<Vec<Pending>> {
        self.coalescer.submit(&self.submitter, items)
    }

    /// How many of the first items to submit at once: all of them, unless they are more than the queue can hold;
    /// then at most half of the queue, but at least one.
    pub fn submit_count(&self, items: &[Item]) -> usize {
        let Options { max_queue_items, max_queue_tokens, .. } = self.submitter.shared.options;
        let within = |most_items: usize, most_tokens: usize| {
            let mut tokens = 0_usize;
            let fits = |item: &&Item| {
                tokens = tokens.saturating_add(self.submitter.shared.cost(item).shape.tokens());
                tokens <= most_tokens
            };
            items.iter().take(most_items).take_while(fits).count()
        };
        if within(max_queue_items, max_queue_tokens) == items.len() {
            return items.len();
        }
        within(max_queue_items / 2, max_queue_tokens / 2).max(1)
    }

    /// Refuses a request that [`submit`](Self::submit) would likely refuse for lack of room or time, so that an
    /// overloaded server does not tokenize most texts. A request that passes is not admitted yet.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::DeadlineUnreachable`], [`Error::Draining`], [`Error::EngineDead`].
    pub fn precheck(&self, estimate: AdmissionEstimate) -> Result<()> {
        self.submitter.precheck(estimate)
    }

    pub fn limits(&self) -> Limits {
        self.submitter.shared.limits
    }

    /// Number of tokens that the queue can hold.
    pub fn max_queue_tokens(&self) -> usize {
        self.submitter.shared.options.max_queue_tokens
    }

    /// Sets the latencies measured on the idle engine, which decide how many steps fit before a deadline.
    pub fn calibrate(&self, latencies: Latencies) {
        self.submitter.shared.lock().latencies = latencies;
    }

    pub fn latencies(&self) -> Latencies {
        self.submitter.shared.lock().latencies.clone()
    }

    /// Refuses new items from now on. The model thread ends when all admitted items are answered.
    pub fn drain(&self) {
        let mut state = self.submitter.shared.lock();
        if state.phase == EnginePhase::Open {
            state.phase = EnginePhase::Draining;
        }
        drop(state);
        self.submitter.shared.changed.notify_one();
    }

    /// Whether the model thread runs.
    pub fn is_alive(&self) -> bool {
        !matches!(self.submitter.shared.lock().phase, EnginePhase::Stopped(_))
    }

    /// Time since the model thread last started a pass; zero while it waits for work.
    pub fn heartbeat(&self) -> Duration {
        self.submitter.shared.since_beat()
    }

    /// Number of items in the queue.
    pub fn queue_depth(&self) -> usize {
        self.submitter.shared.lock().queue.len()
    }

    /// Resolves when the model thread has ended and all items are answered.
    ///
    /// # Errors
    /// [`Error::EngineDead`] if it died; the process should end then.
    pub async fn stopped(&self) -> Result<()> {
        let mut stopped = self.submitter.shared.stopped.subscribe();
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = stopped.wait_for(Option::is_some).await;
        self.end().unwrap_or(Ok(()))
    }

    fn end(&self) -> Option<Result<()>> {
        match &self.submitter.shared.lock().phase {
            EnginePhase::Stopped(None) => Some(Ok(())),
            EnginePhase::Stopped(Some(reason)) => Some(Err(Error::EngineDead(reason.clone()))),
            EnginePhase::Open | EnginePhase::Draining => None,
        }
    }
}
