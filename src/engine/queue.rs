//! What is admitted and not yet picked up: a pure data structure, in the order of turns.
//!
//! Admission is one decision for all sentences of a request, counted in sentences and in tokens.
//! Time comes in from outside, as instants and as the number of passes so far.

use std::collections::BTreeMap;
use std::time::Instant;

use super::plan::{Candidate, Shape, Turn};

/// What a sentence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Rows and source as they are, target as expected.
    pub shape: Shape,
    pub steps: usize,
}

impl Ask {
    /// What it will cost in all: tokens times passes.
    fn work(self) -> u64 {
        (self.shape.tokens() as u64).saturating_mul(self.steps as u64)
    }
}

/// A sentence in the queue.
#[derive(Debug)]
pub struct Entry<T> {
    pub ask: Ask,
    pub arrived: Instant,
    pub payload: T,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room now.
    Full,
    /// More sentences than the queue ever holds.
    TooManyItems { items: usize },
    /// More tokens than the queue ever holds.
    TooManyTokens { tokens: usize },
}

#[derive(Debug)]
pub struct Queue<T> {
    max_items: usize,
    max_tokens: usize,
    /// Passes until an item is due, for each of its steps.
    patience: u64,
    entries: BTreeMap<Turn, Entry<T>>,
    tokens: usize,
    work: u64,
    passes: u64,
    admitted: u64,
}

impl<T> Queue<T> {
    /// An item of T steps is due `T × patience` passes after its admission.
    pub fn new(max_items: usize, max_tokens: usize, patience: u64) -> Self {
        let entries = BTreeMap::new();
        Self { max_items, max_tokens, patience, entries, tokens: 0, work: 0, passes: 0, admitted: 0 }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tokens times passes that wait.
    pub fn work(&self) -> u64 {
        self.work
    }

    pub fn oldest(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.arrived).min()
    }

    /// Whether a request of these sentences would be admitted.
    pub fn room_for(&self, request: impl ExactSizeIterator<Item = Ask>) -> Result<(), Refusal> {
        let items = request.len();
        let tokens = request.fold(0_usize, |sum, ask| sum.saturating_add(ask.shape.tokens()));
        if items > self.max_items {
            return Err(Refusal::TooManyItems { items });
        }
        if tokens > self.max_tokens {
            return Err(Refusal::TooManyTokens { tokens });
        }
        if items > self.max_items - self.entries.len() || tokens > self.max_tokens - self.tokens {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Takes all of them or none.
    pub fn admit(&mut self, request: Vec<Entry<T>>) -> Result<(), Refusal> {
        self.room_for(request.iter().map(|entry| entry.ask))?;
        for entry in request {
            let due = self.passes.saturating_add(self.patience.saturating_mul(entry.ask.steps as u64));
            let turn = Turn { due, order: self.admitted };
            self.admitted += 1;
            self.tokens += entry.ask.shape.tokens();
            self.work = self.work.saturating_add(entry.ask.work());
            self.entries.insert(turn, entry);
        }
        Ok(())
    }

    /// One more decoder pass has begun: whoever comes from now on is due later.
    pub fn advance(&mut self) {
        self.passes += 1;
    }

    /// The first `lookahead` entries in the order of their turns.
    pub fn window(&self, lookahead: usize) -> impl Iterator<Item = Candidate> {
        let entries = self.entries.iter().take(lookahead);
        entries.map(|(&turn, entry)| Candidate { turn, shape: entry.ask.shape })
    }

    /// Takes out the entry with this turn, if it is still there.
    pub fn take(&mut self, turn: Turn) -> Option<Entry<T>> {
        let entry = self.entries.remove(&turn)?;
        self.tokens -= entry.ask.shape.tokens();
        self.work = self.work.saturating_sub(entry.ask.work());
        Some(entry)
    }

    /// Takes out every entry that `leaves`: the cancelled, the expired, at the end all.
    pub fn take_if(&mut self, mut leaves: impl FnMut(&T) -> bool) -> Vec<T> {
        let leaving = self.entries.iter().filter(|(_, entry)| leaves(&entry.payload)).map(|(&turn, _)| turn);
        let leaving: Vec<Turn> = leaving.collect();
        leaving.into_iter().filter_map(|turn| self.take(turn)).map(|entry| entry.payload).collect()
    }
}
