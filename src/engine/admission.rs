//! Whether a request is admitted: room in the queue, time before its deadline, and with how many steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::degrade::{Lowered, lower};
use super::handle::Handle;
use super::plan::Shape;
use super::queue::{AdmissionError, Entry, RequestCost};
use super::queued::Queued;
use super::shared::{Job, Phase, State, sooner};
use super::{AdmissionEstimate, Item, Outcome};
use crate::decode::{Limits, Steps};
use crate::metrics::Rejected;
use crate::{Error, Result};

/// Of the time to its deadline that a request may be expected to take; the rest is for what the
/// expectation does not know: sentences that run already, longer translations than sources.
const PART_OF_THE_TIME: f64 = 0.75;

impl Handle {
    /// Refuses at once what [`submit`](Self::submit) would refuse because room or time is missing, so far as a
    /// guess can tell: under overload most texts need not be taken apart. What passes is not admitted yet.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::DeadlineUnreachable`], [`Error::Draining`], [`Error::EngineDead`].
    pub fn precheck(&self, guess: AdmissionEstimate) -> Result<()> {
        let now = Instant::now();
        let limits = self.shared.limits;
        let all = Limits { target_tokens: limits.target_tokens.saturating_mul(guess.sentences), ..limits };
        let (rows, target) = (guess.length_beam.max(1), all.estimated_canvas_len(guess.tokens));
        let cost =
            RequestCost { shape: Shape { rows, source: guess.tokens, target }, steps: guess.steps.get() };
        let mut state = self.shared.lock();
        self.open(&state)?;
        let full = match self.make_room(&mut state, &[cost], now) {
            Err(error @ Error::QueueFull { .. }) => Some(error),
            // Too much for any queue, which only the text itself can tell.
            Err(_) => None,
            Ok(()) => self.too_late(&state, &[cost], guess.deadline, now),
        };
        full.map_or(Ok(()), |error| {
            self.count(&error, guess.sentences);
            Err(error)
        })
    }

    /// Counts sentences that were not admitted.
    pub(super) fn count(&self, error: &Error, sentences: usize) {
        let reason = match error {
            Error::TooLarge { .. } => Rejected::TooLong,
            Error::QueueFull { .. } => Rejected::QueueFull,
            Error::DeadlineUnreachable { .. } => Rejected::Deadline,
            Error::Draining => Rejected::Draining,
            _ => return,
        };
        self.shared.metrics.rejected(reason, sentences);
    }

    pub(super) fn admit(&self, mut items: Vec<Item>, now: Instant) -> Result<Vec<Queued>> {
        let mut costs: Vec<Option<RequestCost>> =
            items.iter().map(|item| self.cost(item)).collect::<Result<_>>()?;
        let mut state = self.shared.lock();
        self.open(&state)?;
        let deadline = items.iter().filter_map(|item| item.deadline).min();
        let asked: Vec<Steps> = items.iter().map(|item| item.steps).collect();
        let reason = lower_steps(&mut state, &mut items, &mut costs, deadline, now);
        self.shared.metrics.degrade_level(state.degrade.level());
        let to_queue: Vec<RequestCost> = costs.iter().flatten().copied().collect();
        self.make_room(&mut state, &to_queue, now)?;
        if let Some(error) = self.too_late(&state, &to_queue, deadline, now) {
            return Err(error);
        }
        let mut request = Vec::with_capacity(items.len());
        let mut pending = Vec::with_capacity(items.len());
        let mut count = 0;
        for ((item, cost), asked) in items.into_iter().zip(costs).zip(asked) {
            let lowered = reason.filter(|_| item.steps < asked);
            count += usize::from(lowered.is_some());
            let (reply, answer) = oneshot::channel();
            pending.push(Queued { answer, shared: Arc::clone(&self.shared) });
            match cost {
                Some(cost) => {
                    let counted = self.shared.metrics.queued();
                    let job = Job { item, submitted: now, lowered, reply, counted };
                    request.push(Entry { cost, arrived: now, payload: job });
                }
                // The receiver is at hand, so this always arrives.
                None => drop(reply.send(Ok(Outcome::of_nothing(&item)))),
            }
        }
        state.queue.admit(request).map_err(|refusal| self.refused(&state, refusal))?;
        if let Some(reason) = reason {
            self.shared.metrics.lowered(reason == Lowered::Deadline, count);
        }
        state.next_deadline = sooner(state.next_deadline, deadline);
        drop(state);
        self.shared.changed.notify_one();
        Ok(pending)
    }

    fn open(&self, state: &State) -> Result<()> {
        match &state.phase {
            Phase::Open => Ok(()),
            Phase::Draining | Phase::Stopped(None) => Err(Error::Draining),
            Phase::Stopped(Some(reason)) => Err(Error::EngineDead(reason.clone())),
        }
    }

    /// The refusal of a request that would not be done by its deadline.
    fn too_late(
        &self,
        state: &State,
        request: &[RequestCost],
        deadline: Option<Instant>,
        now: Instant,
    ) -> Option<Error> {
        let left = deadline?.saturating_duration_since(now);
        let retry_after = || state.throughput.retry_after(state.queue.work());
        (!in_time(state, request, left)).then(|| Error::DeadlineUnreachable { retry_after: retry_after() })
    }

    /// What the item will take; none if there is nothing to translate.
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

    /// Those who left or came too late give way to newcomers at once, not only before the next pass.
    fn make_room(&self, state: &mut State, costs: &[RequestCost], now: Instant) -> Result<()> {
        let mut room = state.queue.room_for(costs.iter().copied());
        if room == Err(AdmissionError::Full) {
            self.shared.clear(state, now).into_iter().for_each(|job| job.discard(now, &self.shared.metrics));
            room = state.queue.room_for(costs.iter().copied());
        }
        room.map_err(|refusal| self.refused(state, refusal))
    }

    fn refused(&self, state: &State, refusal: AdmissionError) -> Error {
        let options = &self.shared.options;
        match refusal {
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

/// Whether a request that is admitted now will be done within `left`. To tell its caller so at once is
/// better than to let it wait in vain, and better for all others: under overload a queue of those who
/// are nearly late would spend the passes on answers that come too late.
fn in_time(state: &State, request: &[RequestCost], left: Duration) -> bool {
    // An idle engine refuses nobody: only a try can tell that it is faster by now than it remembers.
    if state.queue.work() == 0 {
        return true;
    }
    let own = request.iter().fold(0, |sum: u64, cost| sum.saturating_add(cost.work()));
    let enough =
        |before: u64| state.throughput.time_for(before.saturating_add(own)) <= left.mul_f64(PART_OF_THE_TIME);
    // Nearly always true already of all that waits.
    let steps = request.iter().map(|cost| cost.steps).max().unwrap_or(0);
    own == 0 || enough(state.queue.work()) || enough(state.queue.work_before(steps))
}

/// Lowers the steps of a request's items where load or deadline ask for it and the items allow it.
fn lower_steps(
    state: &mut State,
    items: &mut [Item],
    costs: &mut [Option<RequestCost>],
    deadline: Option<Instant>,
    now: Instant,
) -> Option<Lowered> {
    let wait = state.throughput.time_for(state.queue.work());
    state.degrade.observe(wait, now);
    let mut bound = |state: &State, most: Option<usize>| {
        let mut any = false;
        for (item, cost) in items.iter_mut().zip(costs.iter_mut()) {
            let steps = match most {
                None => state.degrade.steps(item.steps, item.steps_min),
                Some(most) => lower(item.steps, item.steps_min, most),
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
    let (by_load, mut request) = bound(state, None);
    let mut lowered = by_load.then_some(Lowered::Load);
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(now);
        let most = request.iter().map(|cost| cost.steps).max().unwrap_or(0);
        let fewer: Vec<usize> = state.latencies.below(most).collect();
        for most in fewer {
            if in_time(state, &request, left) && latency(state, &request) <= left.mul_f64(PART_OF_THE_TIME) {
                break;
            }
            let (by_deadline, bounded) = bound(state, Some(most));
            request = bounded;
            if !by_deadline {
                break;
            }
            lowered = Some(Lowered::Deadline);
        }
    }
    lowered
}

/// How long the longest sentence of a request takes on an idle engine.
fn latency(state: &State, request: &[RequestCost]) -> Duration {
    let of = |cost: &RequestCost| state.latencies.expected(cost.steps, cost.shape.source);
    request.iter().map(of).max().unwrap_or_default()
}
