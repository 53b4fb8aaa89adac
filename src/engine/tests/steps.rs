//! Tests of lowered steps.

use super::*;

fn willing(seed: u32, steps: u8, least: u8) -> Item {
    Item { steps_min: Steps::new(least).unwrap(), ..item(seed, 20, steps) }
}

/// An engine with about thirty passes of work. Returns an upper bound of the time of the last pass, which is long.
fn loaded(options: Options) -> (TestEngine, Vec<Pending>, Duration) {
    let test = test_engine(FakeTranslator::new(), options);
    let (gate, handle) = (&test.gate, &test.handle);
    gate.close();
    let mut waiting = handle.submit(items(0..1, 20, 1)).unwrap();
    gate.wait_until_held();
    waiting.extend(handle.submit(items(1..33, 20, 1)).unwrap());
    let started = Instant::now();
    gate.step();
    while started.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    gate.step();
    (test, waiting, started.elapsed())
}

#[tokio::test]
async fn under_load_steps_are_lowered_for_requests_that_allow_it() {
    let policy = DegradePolicy { above: Duration::from_millis(50), below: Duration::from_millis(5) };
    let options = Options { degrade: Some(policy), ..rows(1) };
    let (test, waiting, _) = loaded(options);
    let TestEngine { engine: _engine, handle, gate, metrics, .. } = test;
    let mut pending = Vec::new();
    // The first request raises the level, and so does the second one after a while.
    pending.extend(handle.submit(vec![willing(50, 8, 1)]).unwrap());
    std::thread::sleep(Duration::from_millis(110));
    pending.extend(handle.submit(vec![willing(51, 8, 1), willing(52, 8, 3), willing(53, 8, 8)]).unwrap());
    gate.open();
    let outcomes = all(pending).await.unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.steps_used).collect::<Vec<_>>(), [4, 2, 3, 8]);
    let load = Some(Lowered::Load);
    assert_eq!(outcomes.iter().map(|outcome| outcome.lowered).collect::<Vec<_>>(), [load, load, load, None]);
    assert_eq!(value(&metrics, "tutti_degrade_level", "en-de"), 2.0);
    assert_eq!(value(&metrics, "tutti_steps_lowered_total", "load"), 3.0);
    drop(waiting);
}

#[tokio::test]
async fn a_deadline_takes_as_many_steps_as_there_is_time_for() {
    let TestEngine { engine: _engine, handle, metrics, .. } = test_engine(FakeTranslator::new(), rows(8));
    let ms = Duration::from_millis;
    let measured = [(1, 1000), (2, 2000), (4, 4000), (10, 10_000)];
    let measured = measured.map(|(steps, time)| (Steps::new(steps).unwrap(), ms(time)));
    handle.calibrate(Latencies::new(measured.to_vec(), 32));
    let by = |seconds: u64, item: Item| Item {
        deadline: Some(Instant::now() + Duration::from_secs(seconds)),
        ..item
    };
    let mut used = Vec::new();
    for item in [
        by(60, willing(1, 10, 1)),
        by(6, willing(2, 10, 1)),
        by(3, willing(3, 10, 1)),
        // No number of steps fits, but an idle engine refuses nothing.
        by(1, willing(4, 10, 1)),
        by(1, willing(5, 10, 4)),
        by(1, willing(6, 10, 10)),
    ] {
        let outcomes = all(handle.submit(vec![item]).unwrap()).await.unwrap();
        used.push((outcomes[0].steps_used, outcomes[0].lowered.is_some()));
    }
    assert_eq!(used, [(10, false), (4, true), (2, true), (1, true), (4, true), (10, false)]);
    assert_eq!(value(&metrics, "tutti_steps_lowered_total", "deadline"), 4.0);
}

#[test]
fn a_request_is_lowered_before_it_is_refused() {
    let (test, waiting, pass) = loaded(rows(1));
    let TestEngine { engine: _engine, handle, gate, .. } = test;
    let measured = [1, 4, 200].map(|steps| (Steps::new(steps).unwrap(), Duration::ZERO));
    handle.calibrate(Latencies::new(measured.to_vec(), 32));
    // There is time for the waiting sentences and a few steps more, but not for two hundred.
    let by = |item: Item| Item { deadline: Some(Instant::now() + 90 * pass), ..item };
    let pinned = handle.submit(vec![by(willing(60, 200, 200))]);
    assert!(matches!(pinned, Err(Error::DeadlineUnreachable { .. })), "{pinned:?}");
    let lowered = handle.submit(vec![by(willing(61, 200, 1))]).unwrap();
    gate.open();
    drop((waiting, lowered));
}
