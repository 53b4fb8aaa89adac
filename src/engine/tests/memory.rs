//! Tests of sentences for which the device has no memory.

use super::*;

/// The translations of a network with enough memory.
fn expected(items: &[Item]) -> Vec<Vec<u32>> {
    let fake = FakeTranslator::new();
    let options = DecodeOptions::new(items[0].steps);
    let sources: Vec<Vec<u32>> = items.iter().map(|item| item.source.clone()).collect();
    let hypotheses = translate(&fake, &sources, &options).unwrap();
    hypotheses.into_iter().map(|mut best| best.swap_remove(0).tokens).collect()
}

fn tokens(outcomes: Vec<Outcome>) -> Vec<Vec<u32>> {
    outcomes.into_iter().map(|mut outcome| outcome.hypotheses.swap_remove(0).tokens).collect()
}

#[tokio::test]
async fn with_too_little_memory_batches_are_smaller_and_every_sentence_is_answered() {
    // Twelve sentences of twelve tokens; the memory holds five.
    let fake = FakeTranslator::new().with_capacity(60);
    let TestEngine { engine: _engine, handle, gate, counts, metrics } = test_engine(fake, rows(64));
    gate.close();
    let first = handle.submit(items(0..1, 10, 1)).unwrap();
    gate.wait_until_held();
    let items = items(1..13, 10, 3);
    let others = handle.submit(items.clone()).unwrap();
    gate.open();
    assert_eq!(tokens(all(others).await.unwrap()), expected(&items));
    assert_eq!(all(first).await.unwrap().len(), 1);
    let most = counts.rows_by_pass().into_iter().max();
    assert!(matches!(most, Some(3..=5)), "five fit, and a quarter of twelve is tried: {most:?}");
    assert!(value(&metrics, "tutti_device_out_of_memory_total", "en-de") >= 2.0);
    assert_eq!(value(&metrics, "tutti_queue_depth", "en-de"), 0.0);
    assert_eq!(value(&metrics, "tutti_running_items", "en-de"), 0.0);
}

#[tokio::test]
async fn a_sentence_without_room_is_refused_and_the_others_are_translated() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new().with_capacity(30), rows(64));
    gate.close();
    let first = handle.submit(items(0..1, 4, 1)).unwrap();
    gate.wait_until_held();
    let mut pending = handle.submit(vec![item(1, 5, 2), item(2, 40, 2), item(3, 6, 2)]).unwrap();
    gate.open();
    let refused = pending.remove(1).await;
    assert!(matches!(refused, Err(Error::DeviceMemory { bytes: 42, free: 30 })), "{refused:?}");
    assert_eq!(all(pending).await.unwrap().len(), 2);
    assert_eq!(all(first).await.unwrap().len(), 1);
    assert_eq!(value(&metrics, "tutti_queue_depth", "en-de"), 0.0);
    let later = handle.submit(items(4..6, 8, 2)).unwrap();
    assert_eq!(all(later).await.unwrap().len(), 2, "the engine still works");
}

#[tokio::test]
async fn a_sentence_that_waits_for_memory_can_be_cancelled_and_can_be_late() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new().with_capacity(20), rows(64));
    gate.close();
    let running = handle.submit(items(0..1, 16, 3)).unwrap();
    gate.wait_until_held();
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = Item { deadline: Some(deadline), ..item(2, 10, 1) };
    let mut waiting = handle.submit(vec![item(1, 10, 1), late, item(3, 10, 1)]).unwrap();
    gate.step();
    drop(waiting.remove(0));
    while Instant::now() <= deadline {
        std::thread::yield_now();
    }
    gate.open();
    let late = waiting.remove(0).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
    assert_eq!(all(waiting).await.unwrap().len(), 1);
    assert_eq!(all(running).await.unwrap().len(), 1);
    assert_eq!(value(&metrics, "tutti_rejected_total", "cancelled"), 1.0);
    assert_eq!(value(&metrics, "tutti_rejected_total", "deadline"), 1.0);
}
