use super::*;
use crate::decode::testing::fake::FakeTranslator;

#[test]
fn percentiles_are_nearest_ranks() {
    let sorted: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
    assert_eq!(percentile_ms(&sorted, 50), 5.0);
    assert_eq!(percentile_ms(&sorted, 90), 9.0);
    assert_eq!(percentile_ms(&sorted[..1], 90), 1.0);
}

#[test]
fn every_length_is_measured_with_every_number_of_steps() {
    let steps = [1, 4].map(|steps| Steps::new(steps).unwrap());
    let plan = Plan {
        lengths: vec![(3, 7), (5, 5)],
        steps: steps.into(),
        length_beam: 1,
        threads: NonZeroUsize::MIN,
        batch: 4,
        until: Until::Elapsed(Duration::from_millis(5)),
        vocabulary: 50,
    };
    let fake = FakeTranslator::new();
    let counts = fake.counts();
    let measured = run(&plan, || Ok(fake.clone()), |_| {}).unwrap();
    let asked: Vec<_> = measured.iter().map(|m| (m.source_tokens, m.target_tokens, m.steps.get())).collect();
    assert_eq!(asked, [(3, 7, 1), (3, 7, 4), (5, 5, 1), (5, 5, 4)]);
    assert!(measured.iter().all(|m| m.latency_p50_ms > 0.0 && m.latency_p50_ms <= m.latency_p90_ms));
    assert!(measured.iter().all(|m| m.sentences_per_second > 0.0));
    // bos, seven forced tokens and eos, for each of a full batch of four rows.
    assert_eq!(counts.largest_batch_tokens(), 4 * 9);
}

#[test]
fn repeats_are_sentences_and_full_batches_and_no_clock_ends_them() {
    let plan = Plan {
        lengths: vec![(5, 5)],
        steps: [1, 4].map(|steps| Steps::new(steps).unwrap()).into(),
        length_beam: 1,
        threads: NonZeroUsize::MIN,
        batch: 4,
        until: Until::Repeated(NonZeroUsize::new(2).unwrap()),
        vocabulary: 50,
    };
    for _ in 0..3 {
        let fake = FakeTranslator::new();
        let counts = fake.counts();
        let measured = run(&plan, || Ok(fake.clone()), |_| {}).unwrap();
        assert!(measured.iter().all(|m| m.latency_samples == 2 && m.sentences_per_second > 0.0));
        // Two sentences and two batches, in one pass each, then in four.
        let one_step = [1, 1, 4, 4];
        let four_steps = one_step.iter().flat_map(|&rows| [rows; 4]);
        assert_eq!(counts.rows_by_pass(), one_step.into_iter().chain(four_steps).collect::<Vec<_>>());
        assert_eq!(counts.encode_calls(), 8);
    }
}

#[test]
fn a_plan_beyond_the_network_is_refused() {
    let plan = Plan {
        lengths: vec![(3, 500)],
        steps: vec![Steps::ONE],
        length_beam: 1,
        threads: NonZeroUsize::MIN,
        batch: 1,
        until: Until::Elapsed(Duration::ZERO),
        vocabulary: 50,
    };
    let refused = run(&plan, || Ok(FakeTranslator::new()), |_| {}).unwrap_err();
    assert!(refused.to_string().contains("target"), "{refused}");
}
