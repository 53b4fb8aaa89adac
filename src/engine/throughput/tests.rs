use super::*;

/// An estimate after `count` full passes.
fn after(count: usize, work: u64, elapsed: Duration) -> ThroughputEstimate {
    let mut estimate = ThroughputEstimate::default();
    (0..count).for_each(|_| estimate.record(work, elapsed, true));
    estimate
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn without_records_the_estimate_is_the_minimum() {
    assert_eq!(ThroughputEstimate::default().time_for(1_000_000), Duration::ZERO);
    assert_eq!(ThroughputEstimate::default().retry_after(1_000_000), SHORTEST);
}

#[test]
fn the_wait_is_the_work_divided_by_the_throughput() {
    let estimate = after(5, 1000, ms(100));
    let wait = estimate.retry_after(50_000).as_secs_f64();
    assert!((wait - 5.0).abs() < 1e-6, "{wait}");
    assert!((estimate.time_for(1).as_secs_f64() - 1e-4).abs() < 1e-9);
    assert_eq!(estimate.retry_after(1), SHORTEST);
    assert_eq!(estimate.retry_after(u64::MAX), LONGEST);
}

#[test]
fn a_pass_that_is_not_full_counts_only_if_it_is_faster_than_the_estimate() {
    let mut estimate = ThroughputEstimate::default();
    estimate.record(1000, Duration::ZERO, false);
    assert_eq!(estimate.time_for(1000), Duration::ZERO, "nothing is recorded yet");
    let mut estimate = after(10, 1000, ms(100));
    let before = estimate.time_for(1000);
    estimate.record(10, ms(5), false);
    estimate.record(0, ms(5), true);
    assert_eq!(estimate.time_for(1000), before, "it is slower, or no pass at all");
    estimate.record(1000, ms(50), false);
    assert!(estimate.time_for(1000) < before);
}

#[test]
fn a_stall_is_forgotten_once_small_passes_are_faster() {
    let mut estimate = after(1, 1000, Duration::from_secs(60));
    let wait = estimate.time_for(1000);
    (0..500).for_each(|_| estimate.record(10, ms(1), false));
    assert!(estimate.time_for(1000) < wait / 100);
}

#[test]
fn one_stalled_pass_does_not_replace_the_estimate() {
    let mut estimate = after(100, 1000, ms(100));
    estimate.record(1000, ms(1100), true);
    assert!(estimate.time_for(1000) < ms(400), "{:?}", estimate.time_for(1000));
    (0..10).for_each(|_| estimate.record(1000, ms(100), true));
    assert!(estimate.time_for(1000) < ms(130), "{:?}", estimate.time_for(1000));
}

#[test]
fn passes_of_any_length_change_the_estimate_within_a_second() {
    for pass in [ms(5), ms(20), ms(100)] {
        let mut estimate = after(200, 1000, pass);
        // From now on, a pass takes twice as long.
        let slow = 2 * pass;
        (0..1000 / slow.as_millis()).for_each(|_| estimate.record(1000, slow, true));
        let factor = estimate.time_for(1000).as_secs_f64() / pass.as_secs_f64();
        assert!((1.7..=2.0).contains(&factor), "passes of {pass:?}: {factor} times as long");
    }
}

#[test]
fn the_estimate_follows_the_last_passes() {
    let mut estimate = after(200, 1000, ms(10));
    (0..200).for_each(|_| estimate.record(1000, Duration::from_secs(1), true));
    let wait = estimate.retry_after(10_000).as_secs_f64();
    assert!((9.0..=10.0).contains(&wait), "{wait}");
}
