//! Tests of the engine through its public API, with a fake network that can be held before a pass.

mod admission;
mod coalesce;
mod failures;
mod lifecycle;
mod memory;
mod observed;
mod overload;
mod simulation;
mod steps;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::decode::testing::fake::{Counts, FakeMemory, FakeTranslator, Fault, Gate};
use crate::decode::{DecodeOptions, Encoded, Limits, Prediction, Row, Translator, translate};
use crate::metrics::Metrics;
use crate::model::Refresh;
use crate::text::Specials;
use crate::{Error, Result};

struct TestEngine {
    engine: Engine,
    handle: Handle,
    gate: Arc<Gate>,
    counts: Arc<Counts>,
    metrics: Metrics,
}

fn test_engine(fake: FakeTranslator, options: Options) -> TestEngine {
    let metrics = Metrics::new();
    let (gate, counts) = (fake.gate(), fake.counts());
    let engine = start(fake, options, metrics.engine("en-de")).unwrap();
    TestEngine { handle: engine.handle(), engine, gate, counts, metrics }
}

fn rows(max_batch_rows: usize) -> Options {
    Options { max_batch_rows, ..Options::default() }
}

/// A sentence that differs for each `seed`.
fn item(seed: u32, words: usize, steps: u8) -> Item {
    let inner = (0..words as u32).map(|place| 5 + (seed * 31 + place * 7) % 900);
    let source = std::iter::once(1).chain(inner).chain([2]).collect();
    let steps = Steps::new(steps).unwrap();
    Item {
        source,
        steps,
        steps_min: steps,
        length_beam: 1,
        alternatives: 0,
        collapse: true,
        trace: false,
        deadline: None,
        watch: None,
        schedule: false,
    }
}

fn items(seeds: std::ops::Range<u32>, words: usize, steps: u8) -> Vec<Item> {
    seeds.map(|seed| item(seed, words, steps)).collect()
}

/// The answer, if it is ready.
fn now(pending: &mut Pending) -> Option<Result<Outcome>> {
    match pin!(pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

async fn all(pending: Vec<Pending>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for pending in pending {
        outcomes.push(pending.await?);
    }
    Ok(outcomes)
}

#[test]
fn a_one_step_request_is_answered_after_two_more_passes_although_ten_step_ones_fill_the_batch() {
    let TestEngine { engine, handle, gate, counts, .. } = test_engine(FakeTranslator::new(), rows(8));
    gate.close();
    let mut long = handle.submit(items(0..8, 20, 10)).unwrap();
    gate.wait_until_held();
    gate.step();
    let mut short = handle.submit(items(9..10, 20, 1)).unwrap();
    gate.step();
    gate.step();
    assert_eq!(counts.rows_by_pass(), [8, 8, 8]);
    assert_eq!(now(&mut short[0]).unwrap().unwrap().steps_used, 1);
    assert!(long.iter_mut().all(|pending| now(pending).is_none()));
    gate.open();
    engine.join().unwrap();
    let used = long.iter_mut().map(|pending| now(pending).unwrap().unwrap().steps_used);
    assert!(used.into_iter().all(|steps| steps > 1));
}

#[test]
fn different_steps_share_passes_and_leave_one_by_one() {
    let TestEngine { engine, handle, counts, .. } = test_engine(FakeTranslator::new(), rows(8));
    let pending = handle.submit([1, 2, 3].map(|steps| item(7, 30, steps)).into()).unwrap();
    engine.join().unwrap();
    assert_eq!(counts.rows_by_pass(), [3, 2, 1]);
    assert_eq!(counts.encode_calls(), 1);
    drop(pending);
}

#[test]
fn the_rows_of_a_cancelled_sentence_are_removed_before_the_next_pass() {
    let TestEngine { engine: _engine, handle, gate, counts, metrics, .. } =
        test_engine(FakeTranslator::new(), rows(4));
    gate.close();
    let mut running = handle.submit(items(0..4, 20, 10)).unwrap();
    gate.wait_until_held();
    let waiting = handle.submit(items(4..7, 20, 10)).unwrap();
    running.truncate(1);
    drop(waiting);
    gate.step();
    assert_eq!(handle.queue_depth(), 0);
    gate.step();
    assert_eq!(counts.rows_by_pass(), [4, 1]);
    assert_eq!(counts.encoded(), 4, "waiting sentences never reached the network");
    assert_eq!(value(&metrics, "tutti_rejected_total", "cancelled"), 6.0);
    assert_eq!(value(&metrics, "tutti_running_items", "en-de"), 1.0);
    gate.open();
}

#[tokio::test]
async fn a_sentence_whose_deadline_has_passed_never_reaches_the_network() {
    let TestEngine { engine: _engine, handle, counts, .. } = test_engine(FakeTranslator::new(), rows(4));
    let late = Item { deadline: Some(Instant::now()), ..item(1, 10, 2) };
    let [late, good] = handle.submit(vec![late, item(2, 10, 2)]).unwrap().try_into().unwrap();
    assert!(matches!(late.await, Err(Error::DeadlineExceeded(_))));
    good.await.unwrap();
    assert_eq!(counts.encoded(), 1);
}

#[test]
fn a_running_sentence_whose_deadline_passes_leaves_before_the_next_pass() {
    let TestEngine { engine: _engine, handle, gate, counts, metrics } =
        test_engine(FakeTranslator::new(), rows(4));
    gate.close();
    let deadline = Instant::now() + Duration::from_millis(5);
    let hasty = Item { deadline: Some(deadline), ..item(1, 20, 10) };
    let mut pending = handle.submit(vec![hasty, item(2, 20, 10)]).unwrap();
    gate.wait_until_held();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    gate.step();
    assert!(matches!(now(&mut pending[0]), Some(Err(Error::DeadlineExceeded(_)))));
    gate.step();
    assert_eq!(counts.rows_by_pass()[1], 1);
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
    gate.open();
}

#[tokio::test]
async fn a_source_without_words_has_the_empty_translation() {
    let TestEngine { engine: _engine, handle, counts, .. } = test_engine(FakeTranslator::new(), rows(2));
    let outcomes = all(handle.submit(vec![item(0, 0, 4), item(1, 3, 1)]).unwrap()).await.unwrap();
    assert_eq!((outcomes[0].hypotheses[0].tokens.len(), outcomes[0].steps_used), (0, 0));
    assert_eq!(outcomes[1].hypotheses[0].tokens.len(), 3);
    assert_eq!(counts.encoded(), 1);
}

#[tokio::test]
async fn an_idle_thread_waits_for_more_sentences_only_while_the_batch_has_room() {
    let options = Options { max_delay: Duration::from_secs(3600), ..rows(2) };
    let TestEngine { engine, handle, counts, .. } = test_engine(FakeTranslator::new(), options);
    let mut pending = handle.submit(items(0..1, 10, 1)).unwrap();
    pending.extend(handle.submit(items(1..2, 10, 1)).unwrap());
    for pending in &mut pending {
        pending.await.unwrap();
    }
    let lonely = handle.submit(items(2..3, 10, 1)).unwrap();
    // Without the drain it would wait for an hour.
    engine.join().unwrap();
    assert_eq!(counts.rows_by_pass(), [2, 1]);
    assert_eq!(all(lonely).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_trace_shows_the_best_candidates_canvas_after_each_of_its_passes() {
    let TestEngine { engine: _engine, handle, .. } = test_engine(FakeTranslator::new(), rows(8));
    let traced = Item { trace: true, length_beam: 3, collapse: false, ..item(3, 9, 4) };
    let [traced] = handle.submit(vec![traced]).unwrap().try_into().unwrap();
    let outcome = traced.await.unwrap();
    let (best, trace) = (&outcome.hypotheses[0], outcome.trace.unwrap());
    assert!(trace.len() > 1 && trace.len() <= outcome.steps_used);
    let masks: Vec<_> =
        trace.iter().map(|canvas| canvas.iter().filter(|&&token| token == 4).count()).collect();
    assert!(masks.is_sorted_by(|a, b| a > b) && masks.last() == Some(&0), "{masks:?}");
    assert_eq!(trace.last().unwrap()[1..=best.tokens.len()], best.tokens);
}

/// Gives an invalid answer for one source.
struct Faulty(FakeTranslator, Vec<u32>);

impl Translator for Faulty {
    type Memory = FakeMemory;

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn specials(&self) -> Specials {
        self.0.specials()
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<FakeMemory>>> {
        self.0.encode(sources)
    }

    fn decode(&self, rows: &[Row<'_, FakeMemory>]) -> Result<Vec<Vec<Prediction>>> {
        let mut answers = self.0.decode(rows)?;
        for (row, answer) in rows.iter().zip(&mut answers).filter(|(row, _)| row.memory.source() == self.1) {
            answer.iter_mut().for_each(|prediction| prediction.log_prob = f32::NAN);
            assert_eq!(row.wanted.len(), answer.len());
        }
        Ok(answers)
    }
}

#[tokio::test]
async fn an_invalid_answer_fails_only_its_own_sentence() {
    let failing = item(2, 10, 3);
    let faulty = Faulty(FakeTranslator::new(), failing.source.clone());
    let engine = start(faulty, rows(8), Metrics::new().engine("en-de")).unwrap();
    let [a, b, c] =
        engine.handle().submit(vec![item(1, 10, 3), failing, item(3, 10, 3)]).unwrap().try_into().unwrap();
    assert!(matches!(b.await, Err(Error::Model(_))));
    assert!(a.await.is_ok() && c.await.is_ok());
    assert!(engine.handle().is_alive());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_sentence_is_translated_the_same_alone_and_in_any_batch(
        drawn in proptest::collection::vec((0_u32..20, 0_usize..40, 1_u8..=6, 1_usize..=3), 1..60),
        max_batch_rows in 3_usize..20,
        max_batch_tokens in 600_usize..2000,
        corrects: bool,
    ) {
        let refresh = if corrects { Refresh::All } else { Refresh::Masked };
        let fake = || FakeTranslator::new().with_refresh(refresh);
        let options = Options { max_batch_tokens, ..rows(max_batch_rows) };
        let TestEngine { engine, handle, counts, .. } = test_engine(fake(), options);
        let items: Vec<Item> = drawn
            .into_iter()
            .map(|(seed, words, steps, length_beam)| Item { length_beam, ..item(seed, words, steps) })
            .collect();
        let pending: Vec<_> = items.chunks(7).flat_map(|part| handle.submit(part.to_vec()).unwrap()).collect();
        engine.join().unwrap();
        prop_assert!(counts.rows_by_pass().into_iter().all(|rows| rows <= max_batch_rows));
        prop_assert!(counts.largest_batch_tokens() <= max_batch_tokens);
        for (item, mut pending) in items.iter().zip(pending) {
            let options = DecodeOptions { length_beam: item.length_beam, ..DecodeOptions::new(item.steps) };
            let alone = translate(&fake(), std::slice::from_ref(&item.source), &options).unwrap();
            prop_assert_eq!(&now(&mut pending).unwrap().unwrap().hypotheses, &alone[0]);
        }
    }
}

/// The value of the only sample of this name whose label values contain all these words.
fn value(metrics: &Metrics, name: &str, labels: &str) -> f64 {
    let text = metrics.render();
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let wanted = |sample: &&prometheus_parse::Sample| {
        let mut words = labels.split(' ');
        sample.metric == name && words.all(|word| sample.labels.values().any(|value| value == word))
    };
    let found: Vec<_> = scrape.samples.iter().filter(wanted).collect();
    match found[..] {
        [prometheus_parse::Sample { value: prometheus_parse::Value::Counter(value), .. }]
        | [prometheus_parse::Sample { value: prometheus_parse::Value::Gauge(value), .. }] => *value,
        ref other => panic!("{name} {labels}: {other:?}"),
    }
}
