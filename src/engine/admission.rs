//! Decides whether a request is admitted and with how many steps: the queue needs room for it, and it must be done
//! before its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::degrade::{Lowered, lower};
use super::plan::BatchShape;
use super::queue::{AdmissionError, Entry, Queue, RequestCost};
use super::queued::Queued;
use super::shared::{EnginePhase, Job, Shared, State, earlier};
use super::throughput::ThroughputEstimate;
use super::{AdmissionEstimate, Item, Outcome};
use crate::decode::{Limits, Steps};
use crate::metrics::{EngineMetrics, Rejected};
use crate::{Error, Result};

/// Share of the time to its deadline in which the work before a request must be done at the present throughput, so the
/// throughput may fall by half. Refusals make it fall: on one core, the thread that refuses gets up to half of the time.
/// Under lasting overload, a longer queue would not raise the throughput, only the waiting time.
const QUEUE_SHARE: f64 = 0.5;

/// Share of the time to its deadline that a request may be expected to take with the work before it, and its longest
/// sentence on an idle engine. The rest is a margin for translations that are longer than expected.
const DEADLINE_SHARE: f64 = 0.75;

/// Puts sentences in the queue; cheap to clone.
#[derive(Clone)]
pub(super) struct Submitter {
    pub shared: Arc<Shared>,
}

impl Submitter {
    /// As [`Handle::submit`](super::Handle::submit), without coalescing and cache.
    pub fn queue(&self, items: Vec<Item>) -> Result<Vec<Queued>> {
        let now = Instant::now();
        let count = items.len();
        self.admit(items, now).inspect_err(|error| self.count(error, count))
    }

    pub fn metrics(&self) -> &EngineMetrics {
        &self.shared.metrics
    }

    /// As [`Handle::precheck`](super::Handle::precheck).
    pub fn precheck(&self, estimate: AdmissionEstimate) -> Result<()> {
        let now = Instant::now();
        let limits = self.shared.limits;
        let all = Limits { target_tokens: limits.target_tokens.saturating_mul(estimate.sentences), ..limits };
        let (rows, target) = (estimate.length_beam.max(1), all.estimated_canvas_len(estimate.tokens));
        let shape = BatchShape { rows, source: estimate.tokens, target };
        let cost = RequestCost { shape, steps: estimate.steps.get() };
        let mut state = self.shared.lock();
        self.check_open(&state)?;
        let refused = match self.make_room(&mut state, &[cost], now) {
            Err(error @ Error::QueueFull { .. }) => Some(error),
            // Larger than the whole queue: only the exact number of tokens can decide that.
            Err(_) => None,
            Ok(()) => self.deadline_error(&state, &[cost], estimate.deadline, now),
        };
        refused.map_or(Ok(()), |error| {
            self.count(&error, estimate.sentences);
            Err(error)
        })
    }

    /// Counts sentences that were not admitted.
    fn count(&self, error: &Error, sentences: usize) {
        let reason = match error {
            Error::TooLarge { .. } => Rejected::TooLong,
            Error::QueueFull { .. } => Rejected::QueueFull,
            Error::DeadlineUnreachable { .. } => Rejected::Deadline,
            Error::Draining => Rejected::Draining,
            _ => return,
        };
        self.shared.metrics.rejected(reason, sentences);
    }

    fn admit(&self, mut items: Vec<Item>, now: Instant) -> Result<Vec<Queued>> {
        let mut costs: Vec<Option<RequestCost>> =
            items.iter().map(|item| self.cost(item)).collect::<Result<_>>()?;
        let mut state = self.shared.lock();
        self.check_open(&state)?;
        let deadline = items.iter().filter_map(|item| item.deadline).min();
        let requested: Vec<Steps> = items.iter().map(|item| item.steps).collect();
        let reason = lower_steps(&mut state, &mut items, &mut costs, deadline, now);
        self.shared.metrics.degrade_level(state.degrade.level());
        let to_queue: Vec<RequestCost> = costs.iter().flatten().copied().collect();
        self.make_room(&mut state, &to_queue, now)?;
        if let Some(error) = self.deadline_error(&state, &to_queue, deadline, now) {
            return Err(error);
        }
        let mut request = Vec::with_capacity(items.len());
        let mut pending = Vec::with_capacity(items.len());
        let mut count = 0;
        for ((item, cost), requested) in items.into_iter().zip(costs).zip(requested) {
            let lowered = reason.filter(|_| item.steps < requested);
            count += usize::from(lowered.is_some());
            let (reply, answer) = oneshot::channel();
            pending.push(Queued { answer, shared: Arc::clone(&self.shared) });
            match cost {
                Some(cost) => {
                    let counted = self.shared.metrics.queued();
                    let job = Job { item, submitted: now, lowered, reply, counted };
                    request.push(Entry { cost, arrived: now, payload: job });
                }
                // The receiver still exists, so sending cannot fail.
                None => drop(reply.send(Ok(Outcome::empty(&item)))),
            }
        }
        state.queue.admit(request).map_err(|error| self.to_error(&state, error))?;
        if let Some(reason) = reason {
            self.shared.metrics.lowered(reason == Lowered::Deadline, count);
        }
        state.next_deadline = earlier(state.next_deadline, deadline);
        drop(state);
        self.shared.changed.notify_one();
        Ok(pending)
    }

    fn check_open(&self, state: &State) -> Result<()> {
        match &state.phase {
            EnginePhase::Open => Ok(()),
            EnginePhase::Draining | EnginePhase::Stopped(None) => Err(Error::Draining),
            EnginePhase::Stopped(Some(reason)) => Err(Error::EngineDead(reason.clone())),
        }
    }

    /// The error for a request that would not be done by its deadline.
    fn deadline_error(
        &self,
        state: &State,
        request: &[RequestCost],
        deadline: Option<Instant>,
        now: Instant,
    ) -> Option<Error> {
        let left = deadline?.saturating_duration_since(now);
        let retry_after = || state.throughput.retry_after(state.queue.work());
        let in_time = in_time(&state.queue, &state.throughput, request, left);
        (!in_time).then(|| Error::DeadlineUnreachable { retry_after: retry_after() })
    }

    /// The expected cost of the item; `None` if there is nothing to translate.
    fn cost(&self, item: &Item) -> Result<Option<RequestCost>> {
        let (limits, budget) = (self.shared.limits, self.shared.budget());
        let size = item.source.len();
        if size > limits.source_tokens {
            return Err(Error::TooLarge { what: "tokens of a sentence", size, limit: limits.source_tokens });
        }
        let cost = self.shared.cost(item);
        if cost.shape.rows > budget.rows {
            return Err(Error::TooLarge { what: "length_beam", size: cost.shape.rows, limit: budget.rows });
        }
        let mut longest = cost.shape;
        longest.target = limits.target_tokens;
        if !budget.holds(longest) {
            let what = "length_beam times tokens of a sentence";
            return Err(Error::TooLarge { what, size: longest.tokens(), limit: budget.tokens });
        }
        Ok((size > 2).then_some(cost))
    }

    /// Checks that the queue has room. If it is full, cancelled and expired sentences are removed first, without
    /// waiting for the next pass.
    fn make_room(&self, state: &mut State, costs: &[RequestCost], now: Instant) -> Result<()> {
        let mut room = state.queue.room_for(costs.iter().copied());
        if room == Err(AdmissionError::Full) {
            self.shared
                .take_obsolete(state, now)
                .into_iter()
                .for_each(|job| job.discard(now, &self.shared.metrics));
            room = state.queue.room_for(costs.iter().copied());
        }
        room.map_err(|error| self.to_error(state, error))
    }

    fn to_error(&self, state: &State, error: AdmissionError) -> Error {
        let options = &self.shared.options;
        match error {
            AdmissionError::Full => {
                Error::QueueFull { retry_after: state.throughput.retry_after(state.queue.work()) }
            }
            AdmissionError::TooManyItems { items } => Error::TooLarge {
                what: "sentences of a request",
                size: items,
                limit: options.max_queue_items,
            },
            AdmissionError::TooManyTokens { tokens } => {
                Error::TooLarge { what: "tokens of a request", size: tokens, limit: options.max_queue_tokens }
            }
        }
    }
}

/// Whether a request that is admitted now will likely be done within `left`. Early refusal also helps the others:
/// otherwise an overloaded engine would spend its passes on answers that come too late.
pub(super) fn in_time<T>(
    queue: &Queue<T>,
    throughput: &ThroughputEstimate,
    request: &[RequestCost],
    left: Duration,
) -> bool {
    // An idle engine refuses nothing: its throughput estimate may be outdated, and only a new measurement corrects
    // it.
    if queue.work() == 0 {
        return true;
    }
    let own = request.iter().fold(0, |sum: u64, cost| sum.saturating_add(cost.work()));
    let (in_queue, in_all) = (left.mul_f64(QUEUE_SHARE), left.mul_f64(DEADLINE_SHARE));
    let enough = |before: u64| {
        throughput.time_for(before) <= in_queue && throughput.time_for(before.saturating_add(own)) <= in_all
    };
    // The cheap check over all waiting work nearly always suffices.
    let steps = request.iter().map(|cost| cost.steps).max().unwrap_or(0);
    own == 0 || enough(queue.work()) || enough(queue.work_before(steps))
}

/// Lowers the steps of a request's items if load or deadline require it and the items allow it.
fn lower_steps(
    state: &mut State,
    items: &mut [Item],
    costs: &mut [Option<RequestCost>],
    deadline: Option<Instant>,
    now: Instant,
) -> Option<Lowered> {
    let wait = state.throughput.time_for(state.queue.work());
    state.degrade.observe(wait, now);
    let mut limit = |state: &State, max_steps: Option<usize>| {
        let mut any = false;
        for (item, cost) in items.iter_mut().zip(costs.iter_mut()) {
            let steps = match max_steps {
                None => state.degrade.steps(item.steps, item.steps_min),
                Some(max) => lower(item.steps, item.steps_min, max),
            };
            any |= steps < item.steps;
            item.steps = steps;
            if let Some(cost) = cost {
                cost.steps = steps.get();
            }
        }
        let request: Vec<RequestCost> = costs.iter().flatten().copied().collect();
        (any, request)
    };
    let (by_load, mut request) = limit(state, None);
    let mut lowered = by_load.then_some(Lowered::Load);
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(now);
        let max_steps = request.iter().map(|cost| cost.steps).max().unwrap_or(0);
        let fewer: Vec<usize> = state.latencies.below(max_steps).collect();
        for steps in fewer {
            let queue_in_time = in_time(&state.queue, &state.throughput, &request, left);
            if queue_in_time && latency(state, &request) <= left.mul_f64(DEADLINE_SHARE) {
                break;
            }
            let (by_deadline, limited) = limit(state, Some(steps));
            request = limited;
            if !by_deadline {
                break;
            }
            lowered = Some(Lowered::Deadline);
        }
    }
    lowered
}

/// Expected time of the longest sentence of a request on an idle engine.
fn latency(state: &State, request: &[RequestCost]) -> Duration {
    let of = |cost: &RequestCost| state.latencies.expected(cost.steps, cost.shape.source);
    request.iter().map(of).max().unwrap_or_default()
}
