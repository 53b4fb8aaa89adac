//! Simulates queue and planner as the model thread uses them, without a thread. Tests properties that hold for
//! every stream of requests.

use std::time::Instant;

use proptest::prelude::*;

use crate::engine::plan::{BatchShape, Budget, Candidate, Priority, plan_batch, select_admissions};
use crate::engine::queue::{Entry, Queue, RequestCost};

const BUDGET: Budget = Budget { tokens: 320, rows: 6 };
const LOOKAHEAD: usize = 5;
const PASSES_PER_STEP: u64 = 3;

#[derive(Clone, Debug)]
struct Sentence {
    /// The pass before which it arrives.
    arrives: u64,
    steps: usize,
    rows: usize,
    source: usize,
    /// The length that the network will predict; the queue only knows the source.
    target: usize,
    /// The pass before which its caller cancels it.
    leaves: Option<u64>,
}

fn sentences(leaving: bool) -> impl Strategy<Value = Vec<Sentence>> {
    let leaves = if leaving { proptest::option::of(0_u64..60).boxed() } else { Just(None).boxed() };
    let one = (0_u64..40, 1_usize..=10, 1_usize..=3, 2_usize..=50, 2_usize..=50, leaves);
    proptest::collection::vec(one, 1..60).prop_map(|drawn| {
        let sentence = |(arrives, steps, rows, source, target, leaves)| Sentence {
            arrives,
            steps,
            rows,
            source,
            target,
            leaves,
        };
        drawn.into_iter().map(sentence).collect()
    })
}

struct Running {
    number: usize,
    priority: Priority,
    shape: BatchShape,
    left: usize,
}

/// How a sentence ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Done { priority: Priority, pass: u64 },
    Cancelled,
}

struct Simulation<'a> {
    sentences: &'a [Sentence],
    queue: Queue<usize>,
    active: Vec<Running>,
    ends: Vec<Vec<End>>,
    pass: u64,
    max_held: usize,
}

impl<'a> Simulation<'a> {
    fn new(sentences: &'a [Sentence]) -> Self {
        let queue = Queue::new(usize::MAX, usize::MAX, PASSES_PER_STEP);
        let ends = vec![Vec::new(); sentences.len()];
        Self { sentences, queue, active: Vec::new(), ends, pass: 0, max_held: 0 }
    }

    fn run(mut self) -> Self {
        let last = self.sentences.iter().map(|sentence| sentence.arrives).max().unwrap_or(0);
        while self.pass <= last || !self.active.is_empty() || !self.queue.is_empty() {
            self.arrive();
            self.leave();
            self.join();
            self.step();
            self.pass += 1;
            assert!(self.pass < 100_000, "the simulation does not end");
        }
        self
    }

    fn arrive(&mut self) {
        for (number, sentence) in self.sentences.iter().enumerate() {
            if sentence.arrives == self.pass {
                let shape =
                    BatchShape { rows: sentence.rows, source: sentence.source, target: sentence.source };
                let cost = RequestCost { shape, steps: sentence.steps };
                self.queue.admit(vec![Entry { cost, arrived: Instant::now(), payload: number }]).unwrap();
            }
        }
    }

    fn leave(&mut self) {
        let (sentences, pass) = (self.sentences, self.pass);
        let gone = |number: usize| sentences[number].leaves.is_some_and(|leaves| leaves <= pass);
        let waiting = self.queue.take_if(|&number| gone(number));
        let running =
            self.active.extract_if(.., |running| gone(running.number)).map(|running| running.number);
        waiting.into_iter().chain(running).for_each(|number| self.ends[number].push(End::Cancelled));
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.active
            .iter()
            .map(|running| Candidate { priority: running.priority, shape: running.shape })
            .collect()
    }

    fn join(&mut self) {
        let priorities = select_admissions(&self.candidates(), self.queue.window(LOOKAHEAD), BUDGET);
        self.queue.advance();
        for priority in priorities {
            let number = self.queue.take(priority).unwrap().payload;
            let Sentence { steps, rows, source, target, .. } = self.sentences[number];
            self.active.push(Running {
                number,
                priority,
                shape: BatchShape { rows, source, target },
                left: steps,
            });
        }
        let held = self.active.iter().map(|running| running.shape.rows).sum();
        self.max_held = self.max_held.max(held);
    }

    fn step(&mut self) {
        let candidates = self.candidates();
        let batch = plan_batch(&candidates, BUDGET);
        let shapes = batch.iter().map(|&index| candidates[index].shape);
        let rows: usize = shapes.clone().map(|shape| shape.rows).sum();
        let source = shapes.clone().map(|shape| shape.source).max().unwrap_or(0);
        let target = shapes.map(|shape| shape.target).max().unwrap_or(0);
        assert!(rows <= BUDGET.rows && rows * (source + target) <= BUDGET.tokens);
        for index in batch {
            self.active[index].left -= 1;
        }
        let pass = self.pass;
        for done in self.active.extract_if(.., |running| running.left == 0) {
            self.ends[done.number].push(End::Done { priority: done.priority, pass });
        }
    }
}

proptest! {
    #[test]
    fn every_sentence_is_finished_or_cancelled_exactly_once(sentences in sentences(true)) {
        let simulation = Simulation::new(&sentences).run();
        for (sentence, ends) in sentences.iter().zip(&simulation.ends) {
            prop_assert_eq!(ends.len(), 1);
            prop_assert!(ends[0] != End::Cancelled || sentence.leaves.is_some());
        }
    }

    /// A pass without a sentence serves one with an earlier priority. So a sentence waits at most as long as all
    /// sentences with earlier priorities take one after the other. Later arrivals get earlier priorities only
    /// until it is due.
    #[test]
    fn no_sentence_starves(sentences in sentences(false)) {
        let simulation = Simulation::new(&sentences).run();
        let done: Vec<_> = simulation.ends.iter().map(|ends| match ends[..] {
            [End::Done { priority, pass }] => (priority, pass),
            ref other => panic!("{other:?}"),
        }).collect();
        for (sentence, &(priority, pass)) in sentences.iter().zip(&done) {
            let earlier = sentences.iter().zip(&done).filter(|(_, (other, _))| *other <= priority);
            let bound: usize = earlier.clone().map(|(other, _)| other.steps).sum();
            prop_assert!((pass - sentence.arrives) < bound as u64, "{pass} passes, bound {bound}");
            for (other, _) in earlier {
                prop_assert!(other.arrives <= sentence.arrives + PASSES_PER_STEP * sentence.steps as u64);
            }
        }
    }

    #[test]
    fn the_number_of_active_sentences_is_bounded(sentences in sentences(true)) {
        let simulation = Simulation::new(&sentences).run();
        // Four batches, the new sentences of the pass that exceeds them, and then one sentence with the first
        // priority a pass while overtaking is still possible.
        prop_assert!(simulation.max_held <= 5 * BUDGET.rows + 3 * 10, "{}", simulation.max_held);
    }
}

#[test]
fn many_short_requests_delay_a_long_one_only_until_it_is_due() {
    let short = |arrives| Sentence { arrives, steps: 1, rows: 1, source: 10, target: 10, leaves: None };
    let mut sentences = vec![Sentence { steps: 10, ..short(0) }];
    // A pass holds six sentences; seven arrive before each pass.
    sentences.extend((0..200).flat_map(|pass| std::iter::repeat_n(short(pass), 7)));
    let simulation = Simulation::new(&sentences).run();
    let [End::Done { pass, .. }] = simulation.ends[0][..] else { panic!("it was not answered") };
    assert!(pass < 10 * PASSES_PER_STEP + 10 + 10, "answered after pass {pass}");
}
