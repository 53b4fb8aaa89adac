use super::*;

fn clock(total: f64, worked: f64, seconds: f64) -> Clock {
    Clock { worked, seconds, completed: worked, ..Clock::new(total) }
}

#[test]
fn the_time_left_follows_from_the_rate_so_far() {
    let clock = clock(100.0, 20.0, 40.0);
    assert_eq!((clock.left(), clock.share()), (Some(Duration::from_secs(160)), 0.2));
    assert_eq!(Clock::new(100.0).left(), None);
}

#[test]
fn the_work_of_an_earlier_process_does_not_affect_the_rate() {
    let mut clock = clock(100.0, 10.0, 10.0);
    clock.enter(50.0);
    clock.reach(0.8, true);
    // 40 of 50 were done before: 10 + 40 are finished, and 50 are left at one second each.
    assert_eq!(clock.share(), 0.5);
    let left = clock.left().unwrap().as_secs_f64();
    assert!((50.0..51.0).contains(&left), "{left}");
}

#[test]
fn a_stage_in_parts_is_done_when_the_last_of_them_is() {
    let mut clock = clock(100.0, 0.0, 0.0);
    clock.enter(100.0);
    for (part, share, whole) in [(0, 0.0, 0.0), (0, 1.0, 0.5), (1, 0.0, 0.5), (1, 1.0, 1.0)] {
        clock.part = (part, 2);
        clock.reach(share, share == 0.0);
        assert_eq!(clock.share(), whole);
    }
    // The second part continues the clock of the first.
    assert_eq!(clock.begin.map(|(share, _)| share), Some(0.0));
}

#[test]
fn a_stage_that_is_skipped_counts_as_done_and_takes_no_time() {
    let mut clock = clock(100.0, 20.0, 20.0);
    clock.enter(30.0);
    clock.leave();
    assert_eq!((clock.left(), clock.share()), (Some(Duration::from_secs(50)), 0.5));
}

#[test]
fn a_stage_advances_the_view_that_is_open_on_its_thread() {
    let share = || OVERALL.with_borrow(|run| run.as_ref().map(|run| run.clock.share()));
    Progress::new("updates", 10, 0).advance();
    assert_eq!(share(), None);
    let view = Overall::open(4.0);
    view.stage("stage 1 of 2, a".into(), 1.0);
    view.done();
    view.stage("stage 2 of 2, b".into(), 3.0);
    let progress = Progress::new("updates", 3, 1);
    assert_eq!(share(), Some(0.5));
    progress.advance();
    assert_eq!(share(), Some(0.75));
    drop(view);
    progress.advance();
    assert_eq!(share(), None);
}
