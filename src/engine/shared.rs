//! What lies between callers and the model thread: the queue behind a lock, the signal that something
//! changed, and the signs of life.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::degrade::{Degrade, Latencies, Lowered};
use super::plan::{Budget, Shape};
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
    /// Why the item has fewer steps than its caller asked for.
    pub lowered: Option<Lowered>,
    pub reply: oneshot::Sender<Result<Outcome>>,
    /// In the gauge of its stage: waiting, then running.
    pub counted: Counted,
}

impl Job {
    /// Nobody waits for the answer any more, or it would come too late.
    pub fn is_over(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.is_late(now)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.item.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The network could not translate it.
    pub fn fail(self, error: Error, metrics: &EngineMetrics) {
        metrics.rejected(Rejected::Failed, 1);
        self.answer(Err(error));
    }

    /// Ends a job that [`is_over`](Self::is_over). A caller waits until its deadline and leaves then, so that
    /// whoever has left by that time counts as late.
    pub fn discard(self, now: Instant, metrics: &EngineMetrics) {
        let reason = if self.is_late(now) { Rejected::Deadline } else { Rejected::Cancelled };
        metrics.rejected(reason, 1);
        let allowed = self.item.deadline.map_or(Duration::ZERO, |deadline| deadline - self.submitted);
        self.answer(Err(Error::DeadlineExceeded(allowed)));
    }

    /// The gauge goes down before the caller can look at it.
    pub fn answer(self, answer: Result<Outcome>) {
        drop(self.counted);
        // A caller that has just left misses nothing.
        let _ = self.reply.send(answer);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// Nothing new comes in; what was admitted is finished.
    Draining,
    /// The model thread is gone; the reason, if it died.
    Stopped(Option<String>),
}

pub struct State {
    pub queue: Queue<Job>,
    pub throughput: ThroughputEstimate,
    pub degrade: Degrade,
    pub latencies: Latencies,
    pub phase: Phase,
    /// No deadline in the queue is before this; none if there is no deadline in it.
    pub next_deadline: Option<Instant>,
    /// When the oldest came of those that are out of the queue and wait for the device's memory.
    pub held_since: Option<Instant>,
}

pub struct Shared {
    pub options: Options,
    pub limits: Limits,
    pub metrics: EngineMetrics,
    /// Something was admitted, or the phase changed.
    pub changed: Condvar,
    /// The phase in which the thread ended; none while it runs.
    pub stopped: watch::Sender<Option<Result<(), String>>>,
    /// Somebody stopped waiting for an answer since the queue was last looked through.
    left: AtomicBool,
    state: Mutex<State>,
    born: Instant,
    /// Nanoseconds from `born` to the last sign of life, or [`IDLE`].
    last_beat: AtomicU64,
}

/// The model thread waits for work: as alive as can be.
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
            left: AtomicBool::new(false),
            state: Mutex::new(State {
                queue,
                throughput: ThroughputEstimate::default(),
                degrade,
                latencies: Latencies::default(),
                phase: Phase::Open,
                next_deadline: None,
                held_since: None,
            }),
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
        }
    }

    /// No change of the state can panic halfway, so what a poisoned lock guards is whole.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A caller stopped waiting; its end of the channel is closed.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Takes out of the queue whoever left or whose time is up. It is looked through only when that can
    /// have happened: a full queue meets thousands of newcomers a second.
    pub fn clear(&self, state: &mut State, now: Instant) -> Vec<Job> {
        let late = state.next_deadline.is_some_and(|deadline| deadline <= now);
        if !self.left.swap(false, Ordering::Acquire) && !late {
            return Vec::new();
        }
        let mut next = None;
        let over = state.queue.take_if(|job| {
            let over = job.is_over(now);
            if !over {
                next = sooner(next, job.item.deadline);
            }
            over
        });
        state.next_deadline = next;
        over
    }

    pub fn budget(&self) -> Budget {
        Budget { tokens: self.options.max_batch_tokens, rows: self.options.max_batch_rows }
    }

    /// What an item will take, as far as can be said before the network predicts its lengths.
    pub fn cost(&self, item: &Item) -> RequestCost {
        let source = item.source.len();
        let (rows, target) = (item.length_beam.max(1), self.limits.estimated_canvas_len(source));
        RequestCost { shape: Shape { rows, source, target }, steps: item.steps.get() }
    }

    pub fn beat(&self) {
        let nanos = u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(IDLE - 1);
        self.last_beat.store(nanos, Ordering::Relaxed);
    }

    pub fn beat_idle(&self) {
        self.last_beat.store(IDLE, Ordering::Relaxed);
    }

    pub fn since_beat(&self) -> Duration {
        match self.last_beat.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            nanos => self.born.elapsed().saturating_sub(Duration::from_nanos(nanos)),
        }
    }

    pub fn oldest_age(&self) -> Duration {
        let state = self.lock();
        sooner(state.queue.oldest(), state.held_since).map_or(Duration::ZERO, |arrived| arrived.elapsed())
    }
}

/// The sooner of two deadlines, where there are any.
pub fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}
