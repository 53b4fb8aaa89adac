//! Simulates an overloaded engine: admission, queue, planner and throughput estimate as callers and the model thread
//! use them, on a virtual clock and without threads.

use std::iter::Peekable;
use std::time::{Duration, Instant};

use crate::engine::admission::in_time;
use crate::engine::plan::{BatchShape, Budget, select_admissions};
use crate::engine::queue::{Entry, Queue, RequestCost};
use crate::engine::throughput::ThroughputEstimate;

/// All sentences have the same cost, so that a pass holds 64 of them.
const COST: RequestCost = RequestCost { shape: BatchShape { rows: 1, source: 10, target: 10 }, steps: 1 };
const BUDGET: Budget = Budget { tokens: 4096, rows: 64 };
const LOOKAHEAD: usize = 256;
const DEADLINE: Duration = Duration::from_secs(1);
/// Sentences per second of passes that nothing slows down.
const CAPACITY: f64 = 640.0;

/// The times of `count` arrivals that are `rate` per second, from `start` in seconds.
fn arrivals(start: f64, rate: f64, count: usize) -> impl Iterator<Item = Duration> {
    (0..count).map(move |number| Duration::from_secs_f64(start + number as f64 / rate))
}

struct Simulation<A: Iterator<Item = Duration>> {
    arrivals: Peekable<A>,
    /// The payload is the time of arrival.
    queue: Queue<Duration>,
    throughput: ThroughputEstimate,
    /// The times of the answers that came before their deadlines.
    answers: Vec<Duration>,
    late: usize,
    refused: usize,
}

impl<A: Iterator<Item = Duration>> Simulation<A> {
    /// `slowness`: how many times as long a pass takes that starts at this time.
    fn run(arrivals: A, mut slowness: impl FnMut(Duration) -> f64) -> Self {
        let mut simulation = Self {
            arrivals: arrivals.peekable(),
            queue: Queue::new(usize::MAX, usize::MAX, 9),
            throughput: ThroughputEstimate::default(),
            answers: Vec::new(),
            late: 0,
            refused: 0,
        };
        let mut now = Duration::ZERO;
        while let Some(start) = simulation.next_start(now) {
            let duration = |rows: usize| Duration::from_secs_f64(rows as f64 / CAPACITY * slowness(start));
            now = simulation.pass(start, duration);
        }
        simulation
    }

    /// The time at which there is a sentence to translate, if any comes.
    fn next_start(&mut self, now: Duration) -> Option<Duration> {
        self.arrive(now);
        if !self.queue.is_empty() {
            return Some(now);
        }
        let next = *self.arrivals.peek()?;
        self.arrive(next);
        Some(next)
    }

    fn arrive(&mut self, now: Duration) {
        while let Some(arrived) = self.arrivals.next_if(|&arrival| arrival <= now) {
            if in_time(&self.queue, &self.throughput, &[COST], DEADLINE) {
                let entry = Entry { cost: COST, arrived: Instant::now(), payload: arrived };
                self.queue.admit(vec![entry]).unwrap();
            } else {
                self.refused += 1;
            }
        }
    }

    /// Runs a pass from `start`, of which `duration` takes the number of rows. Returns its end.
    fn pass(&mut self, start: Duration, duration: impl FnOnce(usize) -> Duration) -> Duration {
        self.late += self.queue.take_if(|&arrived| arrived + DEADLINE <= start).len();
        let chosen = select_admissions(&[], self.queue.window(LOOKAHEAD), BUDGET);
        self.queue.advance();
        let taken = chosen.iter().filter_map(|&priority| self.queue.take(priority));
        let batch: Vec<Duration> = taken.map(|entry| entry.payload).collect();
        let full = !self.queue.is_empty();
        let took = duration(batch.len());
        let end = start + took;
        self.queue.set_running(chosen.iter().map(|&priority| (priority, COST.work())));
        self.arrive(end);
        self.queue.set_running(std::iter::empty());
        self.throughput.record(batch.len() as u64 * COST.work(), took, full);
        let answered = batch.iter().filter(|&&arrived| arrived + DEADLINE >= end).count();
        self.late += batch.len() - answered;
        self.answers.extend(std::iter::repeat_n(end, answered));
        end
    }

    /// Answers per second between two times in seconds.
    fn rate(&self, from: u64, to: u64) -> f64 {
        let between = Duration::from_secs(from)..Duration::from_secs(to);
        self.answers.iter().filter(|&answer| between.contains(answer)).count() as f64 / (to - from) as f64
    }
}

/// Three seconds a little above the capacity, then four at five times the capacity.
fn overload() -> impl Iterator<Item = Duration> {
    let little = arrivals(0.0, 1.1 * CAPACITY, 2112);
    little.chain(arrivals(3.0, 5.0 * CAPACITY, 12_800))
}

#[test]
fn nothing_admitted_is_late_although_refusals_take_two_fifths_of_the_core() {
    let since = Duration::from_secs(3);
    let simulation = Simulation::run(overload(), |start| if start < since { 1.0 } else { 1.0 / 0.6 });
    assert_eq!(simulation.late, 0);
    let rate = simulation.rate(3, 7);
    assert!(rate >= 0.95 * 0.6 * CAPACITY, "{rate} answers per second of {}", 0.6 * CAPACITY);
    assert_eq!(simulation.answers.len() + simulation.refused, 2112 + 12_800);
}

#[test]
fn after_a_stall_of_a_second_the_engine_is_soon_busy_again() {
    let mut stalls = 1;
    let simulation = Simulation::run(overload(), |start| {
        let stalled = stalls > 0 && start >= Duration::from_secs(4);
        stalls -= i32::from(stalled);
        if stalled { 11.0 } else { 1.0 }
    });
    let rate = simulation.rate(6, 7);
    assert!(rate >= 0.9 * CAPACITY, "{rate} answers per second of {CAPACITY}");
}
