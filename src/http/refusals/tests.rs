use super::*;

#[test]
fn threads_pause_only_for_a_short_time_after_a_refusal() {
    let started = Instant::now();
    let refusals = Refusals::new(started);
    let at = |ms: u64| started + Duration::from_millis(ms);
    assert_eq!(refusals.pause(at(0)), None, "nothing was refused");
    refusals.note(at(0));
    assert_eq!(refusals.pause(at(10)), Some(PAUSE));
    assert_eq!(refusals.pause(at(60)), None);
    refusals.note(at(70));
    assert_eq!([69, 70, 119, 121].map(|ms| refusals.pause(at(ms)).is_some()), [true, true, true, false]);
}
