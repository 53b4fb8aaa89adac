//! What callers hold: [`Handle`] to hand in sentences, [`Engine`] to end it all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::coalesce::{Coalescer, Pending};
use super::degrade::{Latencies, Lowered, lower};
use super::plan::Shape;
use super::queue::{AdmissionError, Entry, RequestCost};
use super::shared::{Job, Phase, Shared, State, sooner};
use super::{AdmissionEstimate, Item, Options, Outcome, Timings, worker};
use crate::decode::{Hypothesis, Limits, Steps, Translator};
use crate::metrics::{EngineMetrics, Rejected};
use crate::text::Specials;
use crate::{Error, Result};

/// Of the time to its deadline that a request may be expected to take; the rest is for what the
/// expectation does not know: sentences that run already, longer translations than sources.
const PART_OF_THE_TIME: f64 = 0.75;

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
    shared: Arc<Shared>,
    coalescer: Coalescer,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Handle {
    /// Refuses at once what [`submit`](Self::submit) would refuse for want of room or time, so far as a
    /// guess can tell: under overload most texts need not be taken apart. What passes is not admitted yet.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::DeadlineUnreachable`], [`Error::Draining`], [`Error::EngineDead`].
    pub fn precheck(&self, guess: AdmissionEstimate) -> Result<()> {
        let now = Instant::now();
        let limits = self.shared.limits;
        let all = Limits { target_tokens: limits.target_tokens.saturating_mul(guess.sentences), ..limits };
        let (rows, target) = (guess.length_beam.max(1), all.expected(guess.tokens));
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

impl Outcome {
    fn of_nothing(item: &Item) -> Self {
        Self {
            hypotheses: vec![Hypothesis::default()],
            steps_used: 0,
            lowered: None,
            timings: Timings::default(),
            trace: item.trace.then(Vec::new),
        }
    }
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

/// The answer to one item, as a future. Dropping it cancels the item: its rows leave before the next
/// pass.
#[must_use = "dropping this cancels the item"]
pub(super) struct Queued {
    answer: oneshot::Receiver<Result<Outcome>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            // First closed, then told: whoever looks finds it closed.
            self.answer.close();
            self.shared.leave();
        }
    }
}

impl Future for Queued {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(Error::EngineDead("the model thread dropped a sentence".into())))
        })
    }
}
