//! Tests of the engine's metrics and threads.

use super::*;

#[tokio::test]
async fn the_counters_match_the_work_of_the_engine() {
    let TestEngine { engine: _engine, handle, metrics, .. } = test_engine(FakeTranslator::new(), rows(8));
    let items = [(4, 2), (10, 1), (4, 2)].map(|(words, steps)| item(1, words, steps));
    let outcomes = all(handle.submit(items.into()).unwrap()).await.unwrap();
    let steps: usize = outcomes.iter().map(|outcome| outcome.steps_used).sum();
    assert_eq!(steps, 5);
    assert_eq!(value(&metrics, "tutti_tokens_total", "source real"), 6.0 + 12.0 + 6.0);
    assert_eq!(value(&metrics, "tutti_tokens_total", "source padding"), 12.0);
    assert_eq!(value(&metrics, "tutti_tokens_total", "target real"), 24.0 + 12.0);
    assert_eq!(value(&metrics, "tutti_tokens_total", "target padding"), 12.0);
    assert_eq!(value(&metrics, "tutti_model_passes_total", "encode"), 1.0);
    assert_eq!(value(&metrics, "tutti_model_passes_total", "decode"), 2.0);
    for (histogram, count) in
        [("queue_wait_seconds", 3), ("encode_seconds", 1), ("decode_pass_seconds", 2), ("batch_rows", 2)]
    {
        assert!(metrics.render().contains(&format!("tutti_{histogram}_count{{model=\"en-de\"}} {count}\n")));
    }
    assert!(metrics.render().contains("tutti_steps_used_sum{model=\"en-de\"} 5\n"));
    assert!(value(&metrics, "tutti_device_busy_seconds_total", "decode") > 0.0);
    assert_eq!(value(&metrics, "tutti_running_items", "en-de"), 0.0);
    assert_eq!(value(&metrics, "tutti_queue_depth", "en-de"), 0.0);
}

#[tokio::test]
async fn the_schedule_of_a_sentence_has_each_of_its_passes() {
    let options = Options { cache_bytes: 100_000, ..rows(8) };
    let TestEngine { engine: _engine, handle, .. } = test_engine(FakeTranslator::new(), options);
    let scheduled = || vec![Item { schedule: true, ..item(0, 10, 3) }, item(1, 10, 3)];
    let before = Instant::now();
    let outcomes = all(handle.submit(scheduled()).unwrap()).await.unwrap();
    let schedule = outcomes[0].schedule.as_ref().unwrap();
    let mut times = vec![before, schedule.submitted, schedule.picked, schedule.encoded];
    times.extend(schedule.passes.iter().flat_map(|&(started, ended)| [started, ended]));
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(schedule.passes.len(), outcomes[0].steps_used);
    assert_eq!(outcomes[1].schedule, None, "this item did not ask for it");
    let from_cache = all(handle.submit(scheduled()).unwrap()).await.unwrap();
    assert_eq!(from_cache[0].schedule, None, "the times of another item");
}

#[test]
fn the_oldest_age_is_that_of_the_sentences_that_still_wait() {
    let TestEngine { engine: _engine, handle, gate, metrics, .. } =
        test_engine(FakeTranslator::new(), rows(1));
    assert_eq!(value(&metrics, "tutti_queue_oldest_age_seconds", "en-de"), 0.0);
    gate.close();
    let pending = handle.submit(items(0..2, 10, 1)).unwrap();
    gate.wait_until_held();
    let age = value(&metrics, "tutti_queue_oldest_age_seconds", "en-de");
    assert!(value(&metrics, "tutti_queue_oldest_age_seconds", "en-de") > age && age > 0.0);
    gate.step();
    assert_eq!(value(&metrics, "tutti_queue_oldest_age_seconds", "en-de"), 0.0);
    gate.open();
    drop(pending);
}

/// Reports the index of its thread and the number of threads.
struct Watched(FakeTranslator, std::sync::mpsc::Sender<(Option<usize>, usize)>);

impl Translator for Watched {
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
        let place = (rayon::current_thread_index(), rayon::current_num_threads());
        self.1.send(place).map_err(|error| Error::Model(error.to_string()))?;
        self.0.decode(rows)
    }
}

#[tokio::test]
async fn the_model_thread_is_the_first_of_those_that_compute() {
    for threads in [1, 3] {
        let (sender, places) = std::sync::mpsc::channel();
        let options = Options { threads: threads.try_into().unwrap(), ..rows(8) };
        let network = Watched(FakeTranslator::new(), sender);
        let engine = start(network, options, Metrics::new().engine("en-de")).unwrap();
        all(engine.handle().submit(items(0..2, 10, 2)).unwrap()).await.unwrap();
        engine.join().unwrap();
        let places: Vec<_> = places.iter().collect();
        assert_eq!(places, vec![(Some(0), threads); places.len()]);
        assert!(!places.is_empty());
    }
}
