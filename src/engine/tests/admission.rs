//! Who gets into the queue and who does not.

use super::*;

#[test]
fn a_sentence_that_cannot_be_done_by_its_deadline_is_refused_at_once() {
    let Bench { engine: _engine, handle, gate, metrics, .. } = bench(FakeTranslator::new(), rows(1));
    gate.close();
    let first = handle.submit(items(0..1, 20, 1)).unwrap();
    gate.wait_until_held();
    let waiting = handle.submit(items(1..13, 20, 1)).unwrap();
    gate.step();
    // The second pass leaves others waiting: it says how long one takes, which is at least this.
    let pass = Duration::from_millis(20);
    let begun = Instant::now();
    while begun.elapsed() < pass {
        std::thread::yield_now();
    }
    gate.step();
    let by = |time: Duration| Item { deadline: Some(Instant::now() + time), ..item(20, 20, 1) };
    assert!(matches!(handle.submit(vec![by(5 * pass)]), Err(Error::DeadlineUnreachable { .. })));
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
    assert_eq!(handle.queue_depth(), 10, "it left no trace");
    let guess = |time| AdmissionEstimate { deadline: Some(Instant::now() + time), ..guess(20) };
    assert!(matches!(handle.precheck(guess(5 * pass)), Err(Error::DeadlineUnreachable { .. })));
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 2.0);
    handle.precheck(guess(Duration::from_secs(3600))).unwrap();
    assert_eq!(handle.queue_depth(), 10, "a guess is no request");
    let patient = handle.submit(vec![by(Duration::from_secs(3600))]).unwrap();
    drop((first, waiting, patient));
    gate.open();
}

#[tokio::test]
async fn a_full_queue_refuses_whole_requests_and_loses_nothing_it_took() {
    let options = Options { max_queue_items: 4, ..rows(1) };
    let Bench { engine: _engine, handle, gate, metrics, .. } = bench(FakeTranslator::new(), options);
    gate.close();
    let mut admitted = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    admitted.extend(handle.submit(items(1..4, 10, 2)).unwrap());
    let Err(Error::QueueFull { retry_after }) = handle.submit(items(4..6, 10, 2)) else { panic!() };
    assert!(retry_after >= Duration::from_secs(1));
    assert_eq!(handle.queue_depth(), 3, "half of a request was admitted");
    handle.precheck(guess(10)).unwrap();
    assert_eq!(value(&metrics, "tutti_queue_depth", "en-de"), 3.0);
    assert_eq!(value(&metrics, "tutti_rejected_total", "queue_full"), 2.0);
    admitted.extend(handle.submit(items(6..7, 10, 2)).unwrap());
    assert!(matches!(handle.precheck(guess(10)), Err(Error::QueueFull { .. })));
    gate.open();
    assert_eq!(all(admitted).await.unwrap().len(), 5);
}

#[test]
fn those_who_left_make_room_in_a_full_queue_even_during_a_pass() {
    let options = Options { max_queue_items: 2, ..rows(1) };
    let Bench { engine: _engine, handle, gate, .. } = bench(FakeTranslator::new(), options);
    gate.close();
    let running = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    drop(handle.submit(items(1..3, 10, 2)).unwrap());
    let admitted = handle.submit(items(3..5, 10, 2));
    gate.open();
    assert_eq!(admitted.unwrap().len() + running.len(), 3);
}

#[test]
fn those_whose_time_is_up_make_room_in_a_full_queue_even_during_a_pass() {
    let options = Options { max_queue_items: 2, ..rows(1) };
    let Bench { engine: _engine, handle, gate, .. } = bench(FakeTranslator::new(), options);
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
fn a_guess_is_refused_by_an_engine_that_takes_nothing_but_never_for_its_size() {
    let Bench { engine, handle, .. } = bench(FakeTranslator::new(), rows(8));
    handle.precheck(guess(usize::MAX)).unwrap();
    engine.join().unwrap();
    assert!(matches!(handle.precheck(guess(10)), Err(Error::Draining)));
}

#[test]
fn what_can_never_fit_is_too_large() {
    let options = Options { max_queue_items: 8, max_batch_tokens: 600, ..rows(6) };
    let Bench { engine: _engine, handle, metrics, .. } = bench(FakeTranslator::new(), options);
    let refused = |items: Vec<Item>| match handle.submit(items) {
        Err(Error::TooLarge { what, size, limit }) => (what, size, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(items(0..1, 127, 1)), ("tokens of a sentence", 129, 128));
    assert_eq!(refused(items(0..9, 5, 1)), ("sentences of a request", 9, 8));
    assert_eq!([8, 9].map(|count| handle.fitting(&items(0..count, 5, 1))), [8, 4]);
    let wide = |length_beam, words| vec![Item { length_beam, ..item(0, words, 1) }];
    assert_eq!(refused(wide(7, 5)), ("length_beam", 7, 6));
    assert_eq!(refused(wide(5, 10)).1, 5 * (12 + 128));
    assert_eq!(value(&metrics, "tutti_rejected_total", "too_long"), 12.0);
    assert_eq!(handle.submit(wide(4, 10)).unwrap().len(), 1);
}

#[test]
fn bounds_that_cannot_work_are_refused_at_the_start() {
    let refused = |options| {
        let started = start(FakeTranslator::new(), options, Metrics::new().engine("m"));
        assert!(matches!(started, Err(Error::Config(_))), "{started:?}");
    };
    refused(Options { max_batch_tokens: 255, ..Options::default() });
    refused(rows(0));
    refused(Options { lookahead: 0, ..Options::default() });
}

/// One sentence of so many words, two steps, no deadline.
fn guess(tokens: usize) -> AdmissionEstimate {
    AdmissionEstimate { sentences: 1, tokens, steps: Steps::new(2).unwrap(), length_beam: 1, deadline: None }
}

#[test]
fn bounds_that_are_left_open_follow_the_device() {
    let open = || Options { max_batch_tokens: 0, max_batch_rows: 0, lookahead: 0, ..Options::default() };
    assert_eq!(open().fitted(None), Options::default());
    let bounds = |options: Options| (options.max_batch_tokens, options.max_batch_rows, options.lookahead);
    assert_eq!(bounds(open().fitted(Some(16_384))), (65_536, 1024, 1024));
    assert_eq!(bounds(open().fitted(Some(2048))), (8192, 128, 256), "little memory");
    assert_eq!(bounds(open().fitted(Some(64))), (4096, 64, 256), "passes in parts");
    let said = Options { max_batch_rows: 7, ..open() };
    assert_eq!(bounds(said.fitted(Some(16_384))), (65_536, 7, 256));
    let said = Options { max_batch_rows: 2048, ..open() };
    assert_eq!(bounds(said.fitted(Some(16_384))), (65_536, 2048, 2048));
}

#[test]
fn a_caller_that_leaves_at_its_deadline_is_counted_as_late() {
    let Bench { engine: _engine, handle, gate, metrics, .. } = bench(FakeTranslator::new(), rows(1));
    gate.close();
    let running = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    let deadline = Instant::now() + Duration::from_millis(2);
    let late = handle.submit(vec![Item { deadline: Some(deadline), ..item(1, 10, 2) }]).unwrap();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    // As an HTTP handler does whose time is up.
    drop(late);
    gate.step();
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
    assert_eq!(value(&metrics, "tutti_rejected_total", "cancelled"), 0.0);
    gate.open();
    drop(running);
}
