//! Tests of coalescing: identical sentences are translated once, and each caller gets its own answer.

use super::*;

fn coalescing() -> Options {
    Options { coalesce: true, ..rows(1) }
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    value(metrics, name, "en-de")
}

#[tokio::test]
async fn identical_sentences_in_flight_are_encoded_once() {
    let TestEngine { engine: _engine, handle, gate, counts, metrics } =
        test_engine(FakeTranslator::new(), coalescing());
    gate.close();
    let first = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    // Within a request, across requests, and with a running sentence.
    let again = handle.submit(vec![item(0, 10, 2), item(1, 10, 2), item(1, 10, 2)]).unwrap();
    let third = handle.submit(vec![item(1, 10, 2)]).unwrap();
    let others = handle.submit(vec![item(1, 10, 3), Item { length_beam: 2, ..item(1, 10, 2) }]);
    assert!(others.is_err(), "a batch of one row cannot hold a beam of two");
    let with_alternatives = Item { alternatives: 2, ..item(1, 10, 2) };
    let more = handle.submit(vec![item(1, 10, 3), with_alternatives]).unwrap();
    assert_eq!(metric(&metrics, "tutti_coalesced_total"), 3.0);
    gate.open();
    let first = all(first).await.unwrap();
    let again = all(again).await.unwrap();
    let third = all(third).await.unwrap();
    all(more).await.unwrap();
    assert_eq!(counts.encoded(), 4);
    assert_eq!(again[0].hypotheses, first[0].hypotheses);
    assert_eq!(again[1].hypotheses, again[2].hypotheses);
    assert_eq!(again[1].hypotheses, third[0].hypotheses);
    // Answered sentences are not kept.
    all(handle.submit(items(0..1, 10, 2)).unwrap()).await.unwrap();
    assert_eq!(counts.encoded(), 5);
}

#[tokio::test]
async fn a_sentence_continues_while_one_of_its_callers_waits() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new(), coalescing());
    gate.close();
    let running = handle.submit(items(9..10, 10, 2)).unwrap();
    gate.wait_until_held();
    let leaving = handle.submit(items(0..1, 10, 2)).unwrap();
    let staying = handle.submit(items(0..1, 10, 2)).unwrap();
    drop(leaving);
    let both_leave = [handle.submit(items(5..6, 10, 2)).unwrap(), handle.submit(items(5..6, 10, 2)).unwrap()];
    drop(both_leave);
    gate.open();
    assert_eq!(all(staying).await.unwrap().len(), 1);
    all(running).await.unwrap();
    // A sentence without callers is cancelled, and a later caller does not join it.
    all(handle.submit(items(5..6, 10, 2)).unwrap()).await.unwrap();
    assert_eq!(value(&metrics, "tutti_rejected_total", "cancelled"), 1.0);
}

#[tokio::test]
async fn a_caller_with_more_time_is_not_bound_to_the_deadline_of_the_first() {
    let TestEngine { engine: _engine, handle, gate, .. } = test_engine(FakeTranslator::new(), coalescing());
    gate.close();
    let running = handle.submit(items(9..10, 10, 2)).unwrap();
    gate.wait_until_held();
    let deadline = Instant::now() + Duration::from_millis(5);
    let hasty = handle.submit(vec![Item { deadline: Some(deadline), ..item(0, 10, 2) }]).unwrap();
    let patient = handle.submit(items(0..1, 10, 2)).unwrap();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    gate.open();
    assert!(matches!(all(hasty).await, Err(Error::DeadlineExceeded(_))));
    assert_eq!(all(patient).await.unwrap().len(), 1);
    all(running).await.unwrap();
}

#[tokio::test]
async fn the_cache_gives_repeated_sentences_the_same_answer() {
    let options = Options { cache_bytes: 100_000, ..rows(8) };
    let TestEngine { engine: _engine, handle, counts, metrics, .. } =
        test_engine(FakeTranslator::new(), options);
    let fresh = all(handle.submit(items(0..4, 10, 2)).unwrap()).await.unwrap();
    let kept = all(handle.submit(items(0..4, 10, 2)).unwrap()).await.unwrap();
    assert_eq!(counts.encoded(), 4);
    for (fresh, kept) in fresh.iter().zip(&kept) {
        assert_eq!((&fresh.hypotheses, fresh.steps_used), (&kept.hypotheses, kept.steps_used));
    }
    assert_eq!(value(&metrics, "tutti_cache_lookups_total", "hit"), 4.0);
    assert_eq!(value(&metrics, "tutti_cache_lookups_total", "miss"), 4.0);
    all(handle.submit(items(0..1, 10, 1)).unwrap()).await.unwrap();
    assert_eq!(counts.encoded(), 5, "other steps need another translation");
    let traced = Item { trace: true, ..item(0, 10, 2) };
    assert!(all(handle.submit(vec![traced]).unwrap()).await.unwrap()[0].trace.is_some());
}
