//! The queue of admitted sentences that the model thread has not taken yet, in the order of priorities.
//!
//! A request is admitted as a whole, within limits of sentences and tokens. The queue is a pure data structure:
//! instants and passes are arguments.

use std::collections::BTreeMap;
use std::time::Instant;

use super::plan::{BatchShape, Candidate, Priority};

/// The expected cost of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCost {
    /// The target length is an estimate.
    pub shape: BatchShape,
    pub steps: usize,
}

impl RequestCost {
    /// Tokens times passes.
    pub fn work(self) -> u64 {
        (self.shape.tokens() as u64).saturating_mul(self.steps as u64)
    }
}

/// A sentence in the queue.
#[derive(Debug)]
pub struct Entry<T> {
    pub cost: RequestCost,
    pub arrived: Instant,
    pub payload: T,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionError {
    /// There is no room now.
    Full,
    /// More sentences than the queue can hold.
    TooManyItems { items: usize },
    /// More tokens than the queue can hold.
    TooManyTokens { tokens: usize },
}

#[derive(Debug)]
pub struct Queue<T> {
    max_items: usize,
    max_tokens: usize,
    /// Number of passes until an item is due, for each of its steps.
    passes_per_step: u64,
    entries: BTreeMap<Priority, Entry<T>>,
    tokens: usize,
    work: u64,
    /// Sentences that were taken and are not finished: priority and remaining work.
    running: Vec<(Priority, u64)>,
    passes: u64,
    admitted: u64,
}

impl<T> Queue<T> {
    /// An item of T steps is due `T × passes_per_step` passes after its admission.
    pub fn new(max_items: usize, max_tokens: usize, passes_per_step: u64) -> Self {
        Self {
            max_items,
            max_tokens,
            passes_per_step,
            entries: BTreeMap::new(),
            tokens: 0,
            work: 0,
            running: Vec::new(),
            passes: 0,
            admitted: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Work of all waiting and running sentences: tokens times passes.
    pub fn work(&self) -> u64 {
        self.running.iter().fold(self.work, |sum, (_, work)| sum.saturating_add(*work))
    }

    /// Replaces the list of sentences that were taken and are not finished.
    pub fn set_running(&mut self, running: impl Iterator<Item = (Priority, u64)>) {
        self.running.clear();
        self.running.extend(running);
    }

    /// The part of [`work`](Self::work) with an earlier priority than a sentence of `steps` steps that is admitted
    /// now.
    pub fn work_before(&self, steps: usize) -> u64 {
        let first = Priority { due: self.due(steps), order: self.admitted };
        // A new sentence is near the end of the queue, so it is faster to count the entries behind it.
        let behind = self.entries.range(first..).map(|(_, entry)| entry.cost.work());
        let waiting = self.work.saturating_sub(behind.fold(0, u64::saturating_add));
        let running = self.running.iter().filter(|(priority, _)| *priority < first);
        running.fold(waiting, |sum, (_, work)| sum.saturating_add(*work))
    }

    fn due(&self, steps: usize) -> u64 {
        self.passes.saturating_add(self.passes_per_step.saturating_mul(steps as u64))
    }

    pub fn oldest(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.arrived).min()
    }

    /// Checks that a request of these sentences would be admitted.
    pub fn room_for(
        &self,
        request: impl ExactSizeIterator<Item = RequestCost>,
    ) -> Result<(), AdmissionError> {
        let items = request.len();
        let tokens = request.fold(0_usize, |sum, cost| sum.saturating_add(cost.shape.tokens()));
        if items > self.max_items {
            return Err(AdmissionError::TooManyItems { items });
        }
        if tokens > self.max_tokens {
            return Err(AdmissionError::TooManyTokens { tokens });
        }
        if items > self.max_items - self.entries.len() || tokens > self.max_tokens - self.tokens {
            return Err(AdmissionError::Full);
        }
        Ok(())
    }

    /// Admits all entries or none.
    pub fn admit(&mut self, request: Vec<Entry<T>>) -> Result<(), AdmissionError> {
        self.room_for(request.iter().map(|entry| entry.cost))?;
        for entry in request {
            let priority = Priority { due: self.due(entry.cost.steps), order: self.admitted };
            self.admitted += 1;
            self.tokens += entry.cost.shape.tokens();
            self.work = self.work.saturating_add(entry.cost.work());
            self.entries.insert(priority, entry);
        }
        Ok(())
    }

    /// Counts a decoder pass: entries admitted from now on are due later.
    pub fn advance(&mut self) {
        self.passes += 1;
    }

    /// The first `lookahead` entries in the order of their priorities.
    pub fn window(&self, lookahead: usize) -> impl Iterator<Item = Candidate> {
        let entries = self.entries.iter().take(lookahead);
        entries.map(|(&priority, entry)| Candidate { priority, shape: entry.cost.shape })
    }

    /// Removes the entry with this priority, if it exists.
    pub fn take(&mut self, priority: Priority) -> Option<Entry<T>> {
        let entry = self.entries.remove(&priority)?;
        self.tokens -= entry.cost.shape.tokens();
        self.work = self.work.saturating_sub(entry.cost.work());
        Some(entry)
    }

    /// Removes and returns the payloads that meet the condition.
    pub fn take_if(&mut self, mut condition: impl FnMut(&T) -> bool) -> Vec<T> {
        let matching = self.entries.iter().filter(|(_, entry)| condition(&entry.payload));
        let priorities: Vec<Priority> = matching.map(|(&priority, _)| priority).collect();
        priorities.into_iter().filter_map(|priority| self.take(priority)).map(|entry| entry.payload).collect()
    }
}

#[cfg(test)]
mod tests;
