use super::*;

#[test]
fn without_records_the_estimate_is_the_minimum() {
    assert_eq!(ThroughputEstimate::default().time_for(1_000_000), Duration::ZERO);
    assert_eq!(ThroughputEstimate::default().retry_after(1_000_000), SHORTEST);
}

#[test]
fn the_wait_is_the_work_divided_by_the_throughput() {
    let mut estimate = ThroughputEstimate::default();
    for _ in 0..5 {
        estimate.record(1000, Duration::from_millis(100));
    }
    let wait = estimate.retry_after(50_000).as_secs_f64();
    assert!((wait - 5.0).abs() < 1e-6, "{wait}");
    assert!((estimate.time_for(1).as_secs_f64() - 1e-4).abs() < 1e-9);
    assert_eq!(estimate.retry_after(1), SHORTEST);
    assert_eq!(estimate.retry_after(u64::MAX), LONGEST);
}

#[test]
fn a_stall_is_forgotten_once_small_passes_are_faster() {
    let mut estimate = ThroughputEstimate::default();
    assert!(!estimate.is_beaten_by(1000, Duration::ZERO), "nothing is recorded yet");
    estimate.record(1000, Duration::from_secs(60));
    let small = |estimate: &ThroughputEstimate| estimate.is_beaten_by(10, Duration::from_millis(1));
    assert!(small(&estimate) && !estimate.is_beaten_by(10, Duration::from_secs(1)));
    let wait = estimate.time_for(1000);
    (0..500).for_each(|_| estimate.record(10, Duration::from_millis(1)));
    assert!(estimate.time_for(1000) < wait / 100);
}

#[test]
fn the_estimate_follows_the_last_passes() {
    let mut estimate = ThroughputEstimate::default();
    (0..200).for_each(|_| estimate.record(1000, Duration::from_millis(10)));
    (0..200).for_each(|_| estimate.record(1000, Duration::from_millis(1000)));
    let wait = estimate.retry_after(10_000).as_secs_f64();
    assert!((9.0..=10.0).contains(&wait), "{wait}");
}
