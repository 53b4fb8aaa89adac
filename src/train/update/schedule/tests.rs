use super::*;

const PLAIN: Schedule =
    Schedule { peak: 1.2e-3, warmup: 800, cap: f64::INFINITY, ramp: 0, updates: 8_000, cooldown: 0 };

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(1.0)
}

#[test]
fn warm_up_is_linear_to_the_peak() {
    assert!(close(PLAIN.rate(1), 1.2e-3 / 800.0));
    assert!(close(PLAIN.rate(400), 0.6e-3));
    assert!(close(PLAIN.rate(800), 1.2e-3));
}

#[test]
fn then_four_times_the_updates_halve_the_rate() {
    assert!(close(PLAIN.rate(3_200), 0.6e-3));
    assert!(close(PLAIN.rate(12_800), 0.3e-3));
}

#[test]
fn a_cap_holds_until_the_root_falls_below_it() {
    let short = Schedule { peak: 1e-3, warmup: 1, cap: 1e-4, ramp: 0, updates: 500, cooldown: 0 };
    assert!((1..=100).all(|n| close(short.rate(n), 1e-4)));
    assert!(close(short.rate(400), 0.5e-4));
    let ramped = Schedule { ramp: 50, ..short };
    assert!(close(ramped.rate(1), 2e-6) && close(ramped.rate(25), 0.5e-4));
    assert!((50..=500).all(|n| close(ramped.rate(n), short.rate(n))));
}

#[test]
fn a_cooldown_falls_in_a_straight_line_to_zero() {
    let cooled = Schedule { cooldown: 999, updates: 4_199, ..PLAIN };
    assert_eq!(cooled.rate(3_200), PLAIN.rate(3_200));
    assert!(close(cooled.rate(3_700), 0.3e-3));
    assert!(close(cooled.rate(4_199), 0.6e-6));
    assert_eq!(cooled.rate(4_200), 0.0);
    assert_eq!(cooled.rate(9_000), 0.0);
}

#[test]
fn a_cooldown_longer_than_the_run_and_no_warm_up_stay_finite() {
    let odd = Schedule { warmup: 0, updates: 10, cooldown: 100, peak: 1.0, ..PLAIN };
    assert!((0..20).all(|n| (0.0..=1.0).contains(&odd.rate(n))));
}
