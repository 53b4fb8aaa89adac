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
    pub fn work(self) -> u64 {
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
    /// Picked up and not done: the turn, and the work that is left.
    running: Vec<(Turn, u64)>,
    passes: u64,
    admitted: u64,
}

impl<T> Queue<T> {
    /// An item of T steps is due `T × patience` passes after its admission.
    pub fn new(max_items: usize, max_tokens: usize, patience: u64) -> Self {
        Self {
            max_items,
            max_tokens,
            patience,
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

    /// Tokens times passes that wait or run.
    pub fn work(&self) -> u64 {
        self.running.iter().fold(self.work, |sum, (_, work)| sum.saturating_add(*work))
    }

    /// Says what is picked up and not done, in place of what was said before.
    pub fn runs(&mut self, running: impl Iterator<Item = (Turn, u64)>) {
        self.running.clear();
        self.running.extend(running);
    }

    /// The part of [`work`](Self::work) whose turn would come before that of a sentence of so many steps
    /// admitted now.
    pub fn work_before(&self, steps: usize) -> u64 {
        let first = Turn { due: self.due(steps), order: self.admitted };
        // Newcomers stand near the end, so that what stands behind them is quicker to count.
        let behind = self.entries.range(first..).map(|(_, entry)| entry.ask.work());
        let waiting = self.work.saturating_sub(behind.fold(0, u64::saturating_add));
        let running = self.running.iter().filter(|(turn, _)| *turn < first);
        running.fold(waiting, |sum, (_, work)| sum.saturating_add(*work))
    }

    fn due(&self, steps: usize) -> u64 {
        self.passes.saturating_add(self.patience.saturating_mul(steps as u64))
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
            let turn = Turn { due: self.due(entry.ask.steps), order: self.admitted };
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(steps: usize, tokens: usize) -> Ask {
        Ask { shape: Shape { rows: 1, source: tokens / 2, target: tokens - tokens / 2 }, steps }
    }

    fn entry<T>(steps: usize, tokens: usize, payload: T) -> Entry<T> {
        Entry { ask: ask(steps, tokens), arrived: Instant::now(), payload }
    }

    fn order<T: Copy>(queue: &Queue<T>) -> Vec<T> {
        queue.window(usize::MAX).map(|candidate| queue.entries[&candidate.turn].payload).collect()
    }

    #[test]
    fn few_steps_go_first_until_the_many_have_waited_long_enough() {
        let mut queue = Queue::new(10, 100, 2);
        queue.admit(vec![entry(4, 4, "four"), entry(1, 4, "one")]).unwrap();
        assert_eq!(order(&queue), ["one", "four"]);
        (0..6).for_each(|_| queue.advance());
        queue.admit(vec![entry(1, 4, "late one"), entry(4, 4, "late four")]).unwrap();
        assert_eq!(order(&queue), ["one", "four", "late one", "late four"]);
    }

    #[test]
    fn only_what_goes_first_is_waited_for() {
        let mut queue = Queue::new(10, 100, 2);
        queue.admit(vec![entry(4, 5, "four"), entry(1, 7, "one")]).unwrap();
        assert_eq!(queue.work(), 27);
        assert_eq!([1, 2, 4].map(|steps| queue.work_before(steps)), [7, 7, 27]);
        (0..6).for_each(|_| queue.advance());
        assert_eq!(queue.work_before(1), 27, "both are due by now");
        let taken: Vec<Turn> = queue.window(2).map(|candidate| candidate.turn).collect();
        assert!(taken.iter().all(|&turn| queue.take(turn).is_some()));
        assert_eq!(queue.work(), 0);
        queue.runs(taken.into_iter().zip([7, 15]));
        assert_eq!((queue.work(), queue.work_before(1)), (22, 22), "what runs is waited for as well");
        queue.runs(std::iter::empty());
        assert_eq!(queue.work(), 0);
    }

    #[test]
    fn a_request_that_does_not_fit_leaves_the_queue_as_it_was() {
        let mut queue = Queue::new(3, 100, 1);
        queue.admit(vec![entry(1, 30, 'a'), entry(1, 30, 'b')]).unwrap();
        assert_eq!(queue.admit(vec![entry(1, 5, 'c'), entry(1, 5, 'd')]), Err(Refusal::Full));
        assert_eq!(queue.admit(vec![entry(1, 41, 'e')]), Err(Refusal::Full));
        assert_eq!(order(&queue), ['a', 'b']);
        queue.admit(vec![entry(1, 40, 'f')]).unwrap();
        assert_eq!(order(&queue), ['a', 'b', 'f']);
    }

    #[test]
    fn a_request_above_the_whole_queue_is_refused_for_good() {
        let queue = Queue::<()>::new(3, 100, 1);
        assert_eq!(queue.room_for([ask(1, 1); 4].into_iter()), Err(Refusal::TooManyItems { items: 4 }));
        let long = queue.room_for([ask(1, 60), ask(1, 60)].into_iter());
        assert_eq!(long, Err(Refusal::TooManyTokens { tokens: 120 }));
    }

    #[test]
    fn an_entry_is_taken_once() {
        let mut queue = Queue::new(3, 100, 1);
        queue.admit(vec![entry(1, 10, 'a')]).unwrap();
        let turn = queue.window(1).next().unwrap().turn;
        assert_eq!(queue.take(turn).map(|entry| entry.payload), Some('a'));
        assert!(queue.take(turn).is_none());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Admit(Vec<(usize, usize)>),
        TakeFirst(usize),
        Cancel(usize),
        Pass,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            proptest::collection::vec((1_usize..12, 2_usize..40), 0..6).prop_map(Event::Admit),
            (1_usize..5).prop_map(Event::TakeFirst),
            (0_usize..60).prop_map(Event::Cancel),
            Just(Event::Pass),
        ]
    }

    proptest! {
        /// Whatever happens: what came in is either still there or came out, once; the sums are
        /// those of what is there; the bounds hold.
        #[test]
        fn nothing_is_lost_or_doubled_and_the_sums_are_right(
            events in proptest::collection::vec(event(), 0..80),
        ) {
            let mut queue = Queue::new(12, 200, 3);
            let (mut inside, mut outside, mut next) = (Vec::new(), Vec::new(), 0_usize);
            for event in events {
                match event {
                    Event::Admit(request) => {
                        let numbered: Vec<_> = request.into_iter().zip(next..).collect();
                        let asks = |&((steps, tokens), number): &((usize, usize), usize)| entry(steps, tokens, number);
                        next += numbered.len();
                        if queue.admit(numbered.iter().map(asks).collect()).is_ok() {
                            inside.extend(numbered);
                        }
                    }
                    Event::TakeFirst(count) => {
                        let turns: Vec<_> = queue.window(count).map(|candidate| candidate.turn).collect();
                        let taken = turns.into_iter().filter_map(|turn| queue.take(turn));
                        outside.extend(taken.map(|entry| entry.payload));
                    }
                    Event::Cancel(number) => outside.extend(queue.take_if(|&payload| payload == number)),
                    Event::Pass => queue.advance(),
                }
                let there: Vec<_> = inside.iter().filter(|(_, number)| !outside.contains(number)).collect();
                prop_assert_eq!(queue.len(), there.len());
                prop_assert_eq!(queue.tokens, there.iter().map(|((_, tokens), _)| tokens).sum::<usize>());
                let work = there.iter().map(|((steps, tokens), _)| steps * tokens).sum::<usize>();
                prop_assert_eq!(queue.work(), work as u64);
                prop_assert!(queue.len() <= 12 && queue.tokens <= 200);
            }
            let mut seen: Vec<_> = order(&queue).into_iter().chain(outside).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, inside.iter().map(|&(_, number)| number).collect::<Vec<_>>());
        }
    }
}
