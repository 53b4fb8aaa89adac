//! The state that callers and the model thread share: the queue behind a lock, a signal for changes, and the
//! heartbeat.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::degrade::{Degrade, Latencies, Lowered};
use super::plan::{BatchShape, Budget};
use super::queue::{Queue, RequestCost};
use super::throughput::ThroughputEstimate;
use super::{Item, Options, Outcome};
use crate::decode::Limits;
use crate::metrics::{Counted, EngineMetrics, Rejected};
use crate::{Error, Result};

/// One sentence from admission to its answer.
pub struct Job {
    pub item: Item,
    pub submitted: Instant,
    /// Why the item has fewer steps than requested.
    pub lowered: Option<Lowered>,
    pub reply: oneshot::Sender<Result<Outcome>>,
    /// Counts the sentence in a gauge: waiting, then running.
    pub counted: Counted,
}

impl Job {
    /// Whether the caller has cancelled the sentence or its deadline has passed.
    pub fn is_obsolete(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.is_late(now)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.item.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Answers with an error of the network.
    pub fn fail(self, error: Error, metrics: &EngineMetrics) {
        metrics.rejected(Rejected::Failed, 1);
        self.answer(Err(error));
    }

    /// Ends a job that [`is_obsolete`](Self::is_obsolete). Callers cancel at their deadline, so a job that is
    /// cancelled after its deadline counts as late.
    pub fn discard(self, now: Instant, metrics: &EngineMetrics) {
        let reason = if self.is_late(now) { Rejected::Deadline } else { Rejected::Cancelled };
        metrics.rejected(reason, 1);
        let allowed = self.item.deadline.map_or(Duration::ZERO, |deadline| deadline - self.submitted);
        self.answer(Err(Error::DeadlineExceeded(allowed)));
    }

    /// Sends the answer. The gauge is decremented first, so that a caller with its answer sees the new value.
    pub fn answer(self, answer: Result<Outcome>) {
        drop(self.counted);
        // An error means that the caller has just cancelled.
        let _ = self.reply.send(answer);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum EnginePhase {
    Open,
    /// New items are refused; admitted ones are finished.
    Draining,
    /// The model thread has ended; the reason, if it died.
    Stopped(Option<String>),
}

pub struct State {
    pub queue: Queue<Job>,
    pub throughput: ThroughputEstimate,
    pub degrade: Degrade,
    pub latencies: Latencies,
    pub phase: EnginePhase,
    /// A lower bound of all deadlines in the queue; `None` if there is none.
    pub next_deadline: Option<Instant>,
    /// Submission of the oldest sentence that was taken from the queue and waits for memory of the device.
    pub held_since: Option<Instant>,
}

pub struct Shared {
    pub options: Options,
    pub limits: Limits,
    pub metrics: EngineMetrics,
    /// Signals an admission or a new phase.
    pub changed: Condvar,
    /// The result of the model thread; `None` while it runs.
    pub stopped: watch::Sender<Option<Result<(), String>>>,
    /// Whether a caller has cancelled since the queue was last searched.
    cancelled: AtomicBool,
    state: Mutex<State>,
    started: Instant,
    /// Nanoseconds from `started` to the last heartbeat, or [`IDLE`].
    last_beat: AtomicU64,
}

/// The value while the model thread waits for work.
const IDLE: u64 = u64::MAX;

impl Shared {
    pub fn new(options: Options, limits: Limits, metrics: EngineMetrics) -> Self {
        let passes_per_step = u64::from(options.max_overtakes_per_step) + 1;
        let degrade = Degrade::new(options.degrade);
        let queue = Queue::new(options.max_queue_items, options.max_queue_tokens, passes_per_step);
        Self {
            options,
            limits,
            metrics,
            changed: Condvar::new(),
            stopped: watch::Sender::new(None),
            cancelled: AtomicBool::new(false),
            state: Mutex::new(State {
                queue,
                throughput: ThroughputEstimate::default(),
                degrade,
                latencies: Latencies::default(),
                phase: EnginePhase::Open,
                next_deadline: None,
                held_since: None,
            }),
            started: Instant::now(),
            last_beat: AtomicU64::new(0),
        }
    }

    /// The state is consistent even if a thread panicked with the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a caller has cancelled. Its end of the channel is closed.
    pub fn mark_cancelled(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Removes cancelled and late jobs from the queue. It is searched only if there may be any, because a full
    /// queue gets thousands of new requests a second.
    pub fn take_obsolete(&self, state: &mut State, now: Instant) -> Vec<Job> {
        let late = state.next_deadline.is_some_and(|deadline| deadline <= now);
        if !self.cancelled.swap(false, Ordering::Acquire) && !late {
            return Vec::new();
        }
        let mut next = None;
        let obsolete = state.queue.take_if(|job| {
            let obsolete = job.is_obsolete(now);
            if !obsolete {
                next = earlier(next, job.item.deadline);
            }
            obsolete
        });
        state.next_deadline = next;
        obsolete
    }

    pub fn budget(&self) -> Budget {
        Budget { tokens: self.options.max_batch_tokens, rows: self.options.max_batch_rows }
    }

    /// The cost of an item, estimated before the network predicts its lengths.
    pub fn cost(&self, item: &Item) -> RequestCost {
        let source = item.source.len();
        let (rows, target) = (item.length_beam.max(1), self.limits.estimated_canvas_len(source));
        RequestCost { shape: BatchShape { rows, source, target }, steps: item.steps.get() }
    }

    pub fn beat(&self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(IDLE - 1);
        self.last_beat.store(nanos, Ordering::Relaxed);
    }

    pub fn beat_idle(&self) {
        self.last_beat.store(IDLE, Ordering::Relaxed);
    }

    pub fn since_beat(&self) -> Duration {
        match self.last_beat.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            nanos => self.started.elapsed().saturating_sub(Duration::from_nanos(nanos)),
        }
    }

    pub fn oldest_age(&self) -> Duration {
        let state = self.lock();
        earlier(state.queue.oldest(), state.held_since).map_or(Duration::ZERO, |arrived| arrived.elapsed())
    }
}

/// The earlier of two instants, if there are any.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}
