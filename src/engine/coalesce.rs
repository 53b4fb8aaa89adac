//! Translates identical sentences once: those in flight share one item, and an optional cache answers repeated
//! ones. The key contains everything that a translation depends on, so coalescing does not change any answer.
//!
//! A caller that joins a sentence in flight gets its answer, even if the number of steps was lowered. If the
//! sentence ends without an answer because the deadline of the first caller passed, the caller that joined submits
//! its own item.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};

use super::admission::Submitter;
use super::queued::Queued;
use super::{Item, Outcome, Timings};
use crate::decode::Steps;
use crate::{Error, Result};

/// Everything that a translation depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: Box<[u32]>,
    steps: Steps,
    steps_min: Steps,
    length_beam: usize,
    alternatives: usize,
    collapse: bool,
}

impl Key {
    fn of(item: &Item) -> Self {
        let &Item { steps, steps_min, length_beam, alternatives, collapse, .. } = item;
        Self { source: item.source.as_slice().into(), steps, steps_min, length_beam, alternatives, collapse }
    }
}

/// A translation that several callers wait for.
type Flight = Shared<Tracked>;
type Flights = Mutex<HashMap<Key, (u64, WeakShared<Tracked>)>>;
type Cache = moka::sync::Cache<Key, Arc<Outcome>>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Coalescer {
    flights: Option<Arc<Flights>>,
    cache: Option<Cache>,
}

impl Coalescer {
    pub fn new(coalesce: bool, cache_bytes: u64) -> Self {
        let cache = || Cache::builder().max_capacity(cache_bytes).weigher(bytes).build();
        Self { flights: coalesce.then(Arc::default), cache: (cache_bytes > 0).then(cache) }
    }

    /// As [`Handle::submit`](super::Handle::submit).
    pub fn submit(&self, submitter: &Submitter, items: Vec<Item>) -> Result<Vec<Pending>> {
        if self.flights.is_none() && self.cache.is_none() {
            return Ok(submitter.queue(items)?.into_iter().map(Pending::own).collect());
        }
        let mut answers: Vec<Option<Pending>> = Vec::with_capacity(items.len());
        let mut missing: Vec<(Vec<usize>, Item)> = Vec::new();
        let mut missing_by_key: HashMap<Key, usize> = HashMap::new();
        for (index, item) in items.into_iter().enumerate() {
            let key = is_shared(&item).then(|| Key::of(&item));
            let known = key.as_ref().and_then(|key| self.look_up(key, &item, submitter));
            if known.is_none() {
                match key.as_ref().and_then(|key| missing_by_key.get(key)) {
                    Some(&first) if self.flights.is_some() => {
                        submitter.metrics().coalesced(1);
                        missing[first].0.push(index);
                    }
                    _ => {
                        if let Some(key) = key {
                            missing_by_key.insert(key, missing.len());
                        }
                        missing.push((vec![index], item));
                    }
                }
            }
            answers.push(known);
        }
        let queued = submitter.queue(missing.iter().map(|(_, item)| item.clone()).collect())?;
        for ((places, item), queued) in missing.into_iter().zip(queued) {
            let own = if is_shared(&item) {
                self.start_flight(&item, queued, places.len(), submitter)
            } else {
                vec![Pending::own(queued)]
            };
            for (place, pending) in places.into_iter().zip(own) {
                answers[place] = Some(pending);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// An answer from the cache, or one shared with the callers that wait for the same sentence.
    fn look_up(&self, key: &Key, item: &Item, submitter: &Submitter) -> Option<Pending> {
        if let Some(cache) = &self.cache {
            let found = cache.get(key);
            submitter.metrics().cache(found.is_some());
            if let Some(outcome) = found {
                return Some(Pending(Kind::Ready(Some(outcome))));
            }
        }
        let flights = self.flights.as_ref()?;
        let flight = {
            let flights = flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.get(key)?.1.upgrade()?
        };
        submitter.metrics().coalesced(1);
        Some(Pending(Kind::Joined(Joined::new(flight, Some((item.clone(), submitter.clone()))))))
    }

    /// Registers a queued sentence as a flight that `callers` callers wait for.
    fn start_flight(
        &self,
        item: &Item,
        queued: Queued,
        callers: usize,
        submitter: &Submitter,
    ) -> Vec<Pending> {
        let key = Key::of(item);
        let tracked = Tracked {
            queued,
            id: flight_id(),
            key: key.clone(),
            flights: self.flights.clone(),
            cache: self.cache.clone(),
        };
        let id = tracked.id;
        let flight = tracked.shared();
        if let (Some(flights), Some(weak)) = (&self.flights, flight.downgrade()) {
            flights.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (id, weak));
        }
        let others = (1..callers).map(|_| {
            Pending(Kind::Joined(Joined::new(flight.clone(), Some((item.clone(), submitter.clone())))))
        });
        let others: Vec<_> = others.collect();
        std::iter::once(Pending(Kind::First(flight))).chain(others).collect()
    }
}

/// Traced and watched sentences are not shared, because each caller needs its own canvases; a source
/// without words needs no translation.
fn is_shared(item: &Item) -> bool {
    !item.trace && item.watch.is_none() && item.source.len() > 2
}

fn flight_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Approximate size of a cache entry.
fn bytes(key: &Key, outcome: &Arc<Outcome>) -> u32 {
    let hypothesis = |h: &crate::decode::Hypothesis| 64 + 4 * (h.tokens.len() + h.token_log_probs.len());
    let sum: usize = outcome.hypotheses.iter().map(hypothesis).sum();
    let passes = outcome.schedule.as_ref().map_or(0, |schedule| schedule.passes.capacity());
    u32::try_from(256 + 4 * key.source.len() + sum + 32 * passes).unwrap_or(u32::MAX)
}

/// A sentence in flight. It removes itself from the table when it has ended or no caller waits for it.
struct Tracked {
    queued: Queued,
    /// Distinguishes this flight from a later one with the same key.
    id: u64,
    key: Key,
    flights: Option<Arc<Flights>>,
    cache: Option<Cache>,
}

impl Future for Tracked {
    type Output = Result<Arc<Outcome>, Arc<Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.queued).poll(context)).map(Arc::new).map_err(Arc::new);
        if let (Ok(outcome), Some(cache)) = (&outcome, &self.cache)
            // A translation with lowered steps must not answer requests that come when there is no load.
            && outcome.lowered.is_none()
        {
            cache.insert(self.key.clone(), outcome.clone());
        }
        Poll::Ready(outcome)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(flights) = &self.flights {
            let mut flights = flights.lock().unwrap_or_else(PoisonError::into_inner);
            // Another flight with the same key may have started in the meantime.
            if flights.get(&self.key).is_some_and(|(id, _)| *id == self.id) {
                flights.remove(&self.key);
            }
        }
    }
}

/// The answer to one item, as a future. Dropping it cancels the item, unless other callers wait for the same
/// sentence.
#[must_use = "dropping this cancels the item"]
pub struct Pending(Kind);

enum Kind {
    Own(Queued),
    First(Flight),
    Joined(Joined),
    Ready(Option<Arc<Outcome>>),
}

struct Joined {
    flight: Flight,
    since: Instant,
    /// What to submit if the flight ends because of the deadline of another caller.
    retry: Option<(Item, Submitter)>,
}

impl Joined {
    fn new(flight: Flight, retry: Option<(Item, Submitter)>) -> Self {
        Self { flight, since: Instant::now(), retry }
    }
}

impl Pending {
    fn own(queued: Queued) -> Self {
        Self(Kind::Own(queued))
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

impl Future for Pending {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Kind::Own(queued) => return Pin::new(queued).poll(context),
                Kind::First(flight) => {
                    return ready!(flight.poll_unpin(context)).map_err(copy_error).map(into_owned).into();
                }
                Kind::Ready(outcome) => {
                    let outcome =
                        outcome.take().ok_or_else(|| Error::EngineDead("an answer was polled twice".into()));
                    return Poll::Ready(
                        outcome.map(|outcome| with_decode_time(into_owned(outcome), Duration::ZERO)),
                    );
                }
                Kind::Joined(Joined { flight, since, retry }) => {
                    let ended = ready!(flight.poll_unpin(context));
                    let late =
                        matches!(ended.as_ref().map_err(|error| &**error), Err(Error::DeadlineExceeded(_)));
                    match retry.take().filter(|(item, _)| late && !is_late(item)) {
                        Some((item, submitter)) => match submitter.queue(vec![item]).map(|mut q| q.pop()) {
                            Ok(Some(queued)) => self.0 = Kind::Own(queued),
                            Ok(None) => {
                                return Poll::Ready(Err(Error::EngineDead("nothing was queued".into())));
                            }
                            Err(error) => return Poll::Ready(Err(error)),
                        },
                        None => {
                            let waited = since.elapsed();
                            let outcome = ended.map_err(copy_error).map(into_owned);
                            return Poll::Ready(outcome.map(|outcome| with_decode_time(outcome, waited)));
                        }
                    }
                }
            }
        }
    }
}

fn is_late(item: &Item) -> bool {
    item.deadline.is_some_and(|deadline| deadline <= Instant::now())
}

fn into_owned(outcome: Arc<Outcome>) -> Outcome {
    Arc::try_unwrap(outcome).unwrap_or_else(|shared| (*shared).clone())
}

/// For callers without an item of their own: their whole waiting time counts as decoding.
fn with_decode_time(outcome: Outcome, decode: Duration) -> Outcome {
    Outcome { timings: Timings { decode, ..Timings::default() }, schedule: None, ..outcome }
}

/// A copy of the error for each caller; errors that cannot be copied keep only their text.
fn copy_error(error: Arc<Error>) -> Error {
    match &*error {
        Error::DeadlineExceeded(allowed) => Error::DeadlineExceeded(*allowed),
        Error::EngineDead(reason) => Error::EngineDead(reason.clone()),
        Error::Draining => Error::Draining,
        &Error::DeviceMemory { bytes, free } => Error::DeviceMemory { bytes, free },
        other => Error::Model(other.to_string()),
    }
}
