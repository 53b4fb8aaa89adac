use super::*;

#[test]
fn before_anything_ran_a_second_is_the_guess() {
    assert_eq!(ThroughputEstimate::default().time_for(1_000_000), Duration::ZERO);
    assert_eq!(ThroughputEstimate::default().retry_after(1_000_000), SHORTEST);
}

#[test]
fn the_wait_is_the_queue_over_the_pace() {
    let mut pace = ThroughputEstimate::default();
    for _ in 0..5 {
        pace.record(1000, Duration::from_millis(100));
    }
    let wait = pace.retry_after(50_000).as_secs_f64();
    assert!((wait - 5.0).abs() < 1e-6, "{wait}");
    assert!((pace.time_for(1).as_secs_f64() - 1e-4).abs() < 1e-9);
    assert_eq!(pace.retry_after(1), SHORTEST);
    assert_eq!(pace.retry_after(u64::MAX), LONGEST);
}

#[test]
fn a_stall_is_forgotten_once_small_passes_are_faster() {
    let mut pace = ThroughputEstimate::default();
    assert!(!pace.is_beaten_by(1000, Duration::ZERO), "nothing is remembered yet");
    pace.record(1000, Duration::from_secs(60));
    let small = |pace: &ThroughputEstimate| pace.is_beaten_by(10, Duration::from_millis(1));
    assert!(small(&pace) && !pace.is_beaten_by(10, Duration::from_secs(1)));
    let wait = pace.time_for(1000);
    (0..500).for_each(|_| pace.record(10, Duration::from_millis(1)));
    assert!(pace.time_for(1000) < wait / 100);
}

#[test]
fn the_pace_follows_the_last_passes() {
    let mut pace = ThroughputEstimate::default();
    (0..200).for_each(|_| pace.record(1000, Duration::from_millis(10)));
    (0..200).for_each(|_| pace.record(1000, Duration::from_millis(1000)));
    let wait = pace.retry_after(10_000).as_secs_f64();
    assert!((9.0..=10.0).contains(&wait), "{wait}");
}
