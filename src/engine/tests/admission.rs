//! Tests of admission.

use super::*;

#[test]
fn a_sentence_that_cannot_be_done_by_its_deadline_is_refused_at_once() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new(), rows(1));
    gate.close();
    let first = handle.submit(items(0..1, 20, 1)).unwrap();
    gate.wait_until_held();
    let waiting = handle.submit(items(1..13, 20, 1)).unwrap();
    gate.step();
    // The second pass leaves sentences waiting, so its time is recorded. It takes at least this long.
    let pass = Duration::from_millis(20);
    let started = Instant::now();
    while started.elapsed() < pass {
        std::thread::yield_now();
    }
    gate.step();
    let by = |time: Duration| Item { deadline: Some(Instant::now() + time), ..item(20, 20, 1) };
    assert!(matches!(handle.submit(vec![by(5 * pass)]), Err(Error::DeadlineUnreachable { .. })));
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
    assert_eq!(handle.queue_depth(), 10, "a refused request is not queued");
    let estimate = |time| AdmissionEstimate { deadline: Some(Instant::now() + time), ..estimate(20) };
    assert!(matches!(handle.precheck(estimate(5 * pass)), Err(Error::DeadlineUnreachable { .. })));
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 2.0);
    handle.precheck(estimate(Duration::from_secs(3600))).unwrap();
    assert_eq!(handle.queue_depth(), 10, "a precheck admits nothing");
    let patient = handle.submit(vec![by(Duration::from_secs(3600))]).unwrap();
    drop((first, waiting, patient));
    gate.open();
}

#[tokio::test]
async fn a_full_queue_refuses_whole_requests_and_keeps_admitted_ones() {
    let options = Options { max_queue_items: 4, ..rows(1) };
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new(), options);
    gate.close();
    let mut admitted = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    admitted.extend(handle.submit(items(1..4, 10, 2)).unwrap());
    let Err(Error::QueueFull { retry_after }) = handle.submit(items(4..6, 10, 2)) else { panic!() };
    assert!(retry_after >= Duration::from_secs(1));
    assert_eq!(handle.queue_depth(), 3, "no part of the refused request was admitted");
    handle.precheck(estimate(10)).unwrap();
    assert_eq!(value(&metrics, "tutti_queue_depth", "en-de"), 3.0);
    assert_eq!(value(&metrics, "tutti_rejected_total", "queue_full"), 2.0);
    admitted.extend(handle.submit(items(6..7, 10, 2)).unwrap());
    assert!(matches!(handle.precheck(estimate(10)), Err(Error::QueueFull { .. })));
    gate.open();
    assert_eq!(all(admitted).await.unwrap().len(), 5);
}

#[test]
fn cancelled_sentences_make_room_in_a_full_queue_even_during_a_pass() {
    let options = Options { max_queue_items: 2, ..rows(1) };
    let TestEngine { engine: _engine, handle, gate, .. } = test_engine(FakeTranslator::new(), options);
    gate.close();
    let running = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    drop(handle.submit(items(1..3, 10, 2)).unwrap());
    let admitted = handle.submit(items(3..5, 10, 2));
    gate.open();
    assert_eq!(admitted.unwrap().len() + running.len(), 3);
}

#[test]
fn late_sentences_make_room_in_a_full_queue_even_during_a_pass() {
    let options = Options { max_queue_items: 2, ..rows(1) };
    let TestEngine { engine: _engine, handle, gate, .. } = test_engine(FakeTranslator::new(), options);
    gate.close();
    let running = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    let deadline = Instant::now() + Duration::from_millis(5);
    let hasty = |seed| Item { deadline: Some(deadline), ..item(seed, 10, 2) };
    let mut late = handle.submit(vec![hasty(1)]).unwrap();
    let patient = handle.submit(items(2..3, 10, 2)).unwrap();
    while Instant::now() < deadline {
        assert!(late.iter_mut().all(|late| now(late).is_none()));
    }
    let admitted = handle.submit(items(3..4, 10, 2)).unwrap();
    assert!(matches!(now(&mut late[0]), Some(Err(Error::DeadlineExceeded(_)))));
    assert!(matches!(handle.submit(items(4..5, 10, 2)), Err(Error::QueueFull { .. })));
    gate.open();
    drop((running, patient, admitted));
}

#[test]
fn a_precheck_is_refused_by_a_drained_engine_but_never_for_its_size() {
    let TestEngine { engine, handle, .. } = test_engine(FakeTranslator::new(), rows(8));
    handle.precheck(estimate(usize::MAX)).unwrap();
    engine.join().unwrap();
    assert!(matches!(handle.precheck(estimate(10)), Err(Error::Draining)));
}

#[test]
fn a_request_that_can_never_fit_is_too_large() {
    let options = Options { max_queue_items: 8, max_batch_tokens: 600, ..rows(6) };
    let TestEngine { engine: _engine, handle, metrics, .. } = test_engine(FakeTranslator::new(), options);
    let refused = |items: Vec<Item>| match handle.submit(items) {
        Err(Error::TooLarge { what, size, limit }) => (what, size, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(items(0..1, 127, 1)), ("tokens of a sentence", 129, 128));
    assert_eq!(refused(items(0..9, 5, 1)), ("sentences of a request", 9, 8));
    assert_eq!([8, 9].map(|count| handle.submit_count(&items(0..count, 5, 1))), [8, 4]);
    let wide = |length_beam, words| vec![Item { length_beam, ..item(0, words, 1) }];
    assert_eq!(refused(wide(7, 5)), ("length_beam", 7, 6));
    assert_eq!(refused(wide(5, 10)).1, 5 * (12 + 128));
    assert_eq!(value(&metrics, "tutti_rejected_total", "too_long"), 12.0);
    assert_eq!(handle.submit(wide(4, 10)).unwrap().len(), 1);
}

#[test]
fn invalid_limits_are_refused_at_the_start() {
    let refused = |options| {
        let started = start(FakeTranslator::new(), options, Metrics::new().engine("m"));
        assert!(matches!(started, Err(Error::Config(_))), "{started:?}");
    };
    refused(Options { max_batch_tokens: 255, ..Options::default() });
    refused(rows(0));
    refused(Options { lookahead: 0, ..Options::default() });
}

/// One sentence of `tokens` tokens with two steps and no deadline.
fn estimate(tokens: usize) -> AdmissionEstimate {
    AdmissionEstimate { sentences: 1, tokens, steps: Steps::new(2).unwrap(), length_beam: 1, deadline: None }
}

#[test]
fn limits_that_are_not_set_depend_on_the_device() {
    let unset = || Options { max_batch_tokens: 0, max_batch_rows: 0, lookahead: 0, ..Options::default() };
    assert_eq!(unset().fitted(None), Options::default());
    let bounds = |options: Options| (options.max_batch_tokens, options.max_batch_rows, options.lookahead);
    assert_eq!(bounds(unset().fitted(Some(16_384))), (65_536, 1024, 1024));
    assert_eq!(bounds(unset().fitted(Some(2048))), (8192, 128, 256), "little memory");
    assert_eq!(bounds(unset().fitted(Some(64))), (4096, 64, 256), "passes in several parts");
    let set = Options { max_batch_rows: 7, ..unset() };
    assert_eq!(bounds(set.fitted(Some(16_384))), (65_536, 7, 256));
    let set = Options { max_batch_rows: 2048, ..unset() };
    assert_eq!(bounds(set.fitted(Some(16_384))), (65_536, 2048, 2048));
}

#[test]
fn a_sentence_that_is_cancelled_at_its_deadline_counts_as_late() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new(), rows(1));
    gate.close();
    let running = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    let deadline = Instant::now() + Duration::from_millis(2);
    let late = handle.submit(vec![Item { deadline: Some(deadline), ..item(1, 10, 2) }]).unwrap();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    // As an HTTP handler does after its timeout.
    drop(late);
    gate.step();
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
    assert_eq!(value(&metrics, "tutti_rejected_total", "cancelled"), 0.0);
    gate.open();
    drop(running);
}
