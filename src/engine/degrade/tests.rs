use super::*;

const POLICY: DegradePolicy =
    DegradePolicy { above: Duration::from_millis(400), below: Duration::from_millis(100) };

fn steps(steps: u8) -> Steps {
    Steps::new(steps).unwrap()
}

#[test]
fn under_load_steps_halve_level_by_level_and_come_back_more_slowly() {
    let mut degrade = Degrade::new(Some(POLICY));
    let begin = Instant::now();
    let mut at = |millis: u64, wait: u64| {
        degrade.observe(Duration::from_millis(wait), begin + Duration::from_millis(millis));
        degrade.steps(steps(10), Steps::ONE).get()
    };
    assert_eq!(at(0, 50), 10);
    assert_eq!(at(10, 500), 5);
    assert_eq!(at(50, 500), 5, "too soon");
    assert_eq!(at(110, 500), 3);
    assert_eq!(at(5000, 250), 3, "between the two thresholds nothing changes");
    assert_eq!(at(6000, 50), 10, "the level falls by one for each second without load");
    assert_eq!(at(6100, 500), 5);
    assert_eq!(at(6200, 50), 5, "too soon");
    assert_eq!(at(7100, 50), 10);
}

#[test]
fn no_request_gets_fewer_steps_than_it_accepts_or_more_than_it_requested() {
    let mut degrade = Degrade::new(Some(POLICY));
    let begin = Instant::now();
    (0..20).for_each(|i| degrade.observe(Duration::from_secs(9), begin + i * RISE_AFTER));
    assert_eq!(degrade.level(), TOP_LEVEL);
    assert_eq!(degrade.steps(steps(10), steps(4)), steps(4));
    assert_eq!(degrade.steps(steps(4), steps(10)), steps(4));
    assert_eq!(degrade.steps(steps(255), Steps::ONE), steps(8));
    assert_eq!(degrade.steps(steps(20), Steps::ONE), Steps::ONE);
}

#[test]
fn without_a_policy_nothing_is_lowered() {
    let mut degrade = Degrade::new(None);
    degrade.observe(Duration::from_secs(9), Instant::now());
    assert_eq!(degrade.steps(steps(10), Steps::ONE), steps(10));
}

#[test]
fn a_longer_sentence_takes_longer_and_steps_between_two_count_as_the_higher() {
    let ms = Duration::from_millis;
    let latencies = Latencies::new(vec![(steps(10), ms(20)), (steps(1), ms(4)), (steps(4), ms(8))], 32);
    assert_eq!(latencies.expected(4, 10), ms(8));
    assert_eq!(latencies.expected(3, 64), ms(16));
    assert_eq!(latencies.expected(20, 32), ms(20));
    assert_eq!(latencies.below(10).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(Latencies::default().expected(4, 32), Duration::ZERO);
}
