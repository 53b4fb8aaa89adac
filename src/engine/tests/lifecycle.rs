//! Tests of draining, dropping and the death of the model thread.

use super::*;

#[tokio::test]
async fn draining_answers_everything_admitted_and_refuses_the_rest() {
    let TestEngine { engine, handle, gate, .. } = test_engine(FakeTranslator::new(), rows(4));
    gate.close();
    let admitted: Vec<_> = (1..=5)
        .flat_map(|steps| handle.submit(items(0..20, 5 * usize::from(steps), steps)).unwrap())
        .collect();
    handle.drain();
    assert!(matches!(handle.submit(items(0..1, 5, 1)), Err(Error::Draining)));
    assert!(handle.is_alive());
    gate.open();
    handle.stopped().await.unwrap();
    assert!(!handle.is_alive());
    assert_eq!(all(admitted).await.unwrap().len(), 100);
    engine.join().unwrap();
    assert!(matches!(handle.submit(items(0..1, 5, 1)), Err(Error::Draining)));
}

#[tokio::test]
async fn dropping_the_engine_drains_it() {
    let TestEngine { engine, handle, gate, .. } = test_engine(FakeTranslator::new(), rows(4));
    gate.close();
    let admitted = handle.submit(items(0..9, 10, 3)).unwrap();
    drop(engine);
    gate.open();
    assert_eq!(all(admitted).await.unwrap().len(), 9);
    handle.stopped().await.unwrap();
}

#[tokio::test]
async fn if_the_model_thread_dies_every_sentence_is_answered_with_the_reason() {
    for fault in [Fault::Error, Fault::Panic] {
        let fake = FakeTranslator::new().failing_from(2, fault);
        let TestEngine { engine, handle, gate, .. } = test_engine(fake, rows(2));
        gate.close();
        let mut pending = handle.submit(items(0..6, 20, 3)).unwrap();
        gate.wait_until_held();
        pending.extend(handle.submit(items(6..9, 20, 3)).unwrap());
        gate.open();
        for pending in pending {
            let Err(Error::EngineDead(reason)) = pending.await else { panic!() };
            assert!(reason.contains("the fake network"), "{reason}");
        }
        assert!(!handle.is_alive());
        assert!(matches!(handle.stopped().await, Err(Error::EngineDead(_))));
        assert!(matches!(handle.submit(items(0..1, 5, 1)), Err(Error::EngineDead(_))));
        assert!(matches!(engine.join(), Err(Error::EngineDead(_))));
    }
}

#[test]
fn the_heartbeat_age_grows_during_a_pass_and_is_zero_when_idle() {
    let TestEngine { engine: _engine, handle, gate, .. } = test_engine(FakeTranslator::new(), rows(2));
    gate.close();
    let pending = handle.submit(items(0..1, 10, 2)).unwrap();
    gate.wait_until_held();
    let first = handle.heartbeat();
    assert!(handle.heartbeat() > first, "the age grows during a pass");
    gate.open();
    drop(pending);
    while handle.heartbeat() > Duration::ZERO {
        std::thread::yield_now();
    }
}
