//! Tests of failing calls of the network: for one input, once, and always.

use super::*;
use crate::decode::testing::fake::Pass;

/// A token that occurs in no other sentence of these tests.
const POISON: u32 = 999;

fn poisoned(steps: u8) -> Item {
    let mut item = item(3, 10, steps);
    item.source[4] = POISON;
    item
}

#[tokio::test]
async fn an_input_that_the_network_cannot_process_fails_alone() {
    for pass in [Pass::Encode, Pass::Decode] {
        for fault in [Fault::Error, Fault::Panic] {
            let fake = FakeTranslator::new().failing_on(POISON, pass, fault);
            let TestEngine { engine, handle, metrics, .. } = test_engine(fake, rows(8));
            // A client may retry such a sentence many times, also in a batch of its own.
            for round in 0..5 {
                let [a, failing, b] = handle
                    .submit(vec![item(round, 10, 3), poisoned(3), item(round + 20, 12, 2)])
                    .unwrap()
                    .try_into()
                    .unwrap();
                assert!(matches!(failing.await, Err(Error::Model(_))), "{pass:?} {fault:?}");
                assert!(a.await.is_ok() && b.await.is_ok(), "{pass:?} {fault:?}");
                let alone = all(handle.submit(vec![poisoned(1)]).unwrap()).await;
                assert!(matches!(alone, Err(Error::Model(_))), "{pass:?} {fault:?}: {alone:?}");
            }
            assert_eq!(value(&metrics, "tutti_rejected_total", "failed"), 10.0);
            assert_eq!(value(&metrics, "tutti_running_items", "en-de"), 0.0);
            assert!(handle.is_alive());
            engine.join().unwrap();
        }
    }
}

#[tokio::test]
async fn after_a_pass_that_fails_once_every_sentence_is_answered() {
    for fault in [Fault::Error, Fault::Panic] {
        let items = items(0..6, 10, 3);
        let healthy = test_engine(FakeTranslator::new(), rows(8));
        let expected = all(healthy.handle.submit(items.clone()).unwrap()).await.unwrap();
        let TestEngine { engine: _engine, handle, .. } =
            test_engine(FakeTranslator::new().failing_at(2, fault), rows(8));
        let outcomes = all(handle.submit(items).unwrap()).await.unwrap();
        for (outcome, expected) in outcomes.iter().zip(&expected) {
            assert_eq!(outcome.hypotheses, expected.hypotheses);
        }
        assert!(handle.is_alive());
    }
}

#[tokio::test]
async fn a_network_that_never_worked_ends_the_engine_after_some_failures() {
    let TestEngine { engine: _engine, handle, .. } =
        test_engine(FakeTranslator::new().failing_from(1, Fault::Error), rows(8));
    for seed in 0..2 {
        let failed = all(handle.submit(items(seed..seed + 1, 10, 1)).unwrap()).await;
        assert!(matches!(failed, Err(Error::Model(_))), "{failed:?}");
    }
    let last = all(handle.submit(items(5..6, 10, 1)).unwrap()).await;
    assert!(matches!(last, Err(Error::EngineDead(_))), "{last:?}");
    assert!(!handle.is_alive());
}
