use super::*;

fn signal(registered: &Registered) -> Signal {
    registered.state.lock().signal
}

#[test]
fn the_longest_idle_connection_is_closed_first_and_a_busy_one_never() {
    let all = Connections::new(3);
    let [first, second, third] = [(); 3].map(|()| all.register().unwrap());
    first.state.begin_answer();
    second.state.begin_answer();
    second.state.end_answer();
    let fourth = all.register().unwrap();
    assert_eq!(
        [&first, &second, &third].map(signal),
        [Signal::KeepOpen, Signal::KeepOpen, Signal::CloseWhenIdle]
    );
    assert!(third.state.closes_now() && !first.state.closes_now());
    drop(fourth);
}

#[test]
fn no_connection_is_accepted_while_all_are_busy() {
    let all = Connections::new(2);
    let both = [(); 2].map(|()| all.register().unwrap());
    both.iter().for_each(|one| one.state.begin_answer());
    assert_eq!(all.register().err(), Some(NoRoom::AllBusy));
    both[0].state.end_answer();
    let third = all.register().unwrap();
    assert_eq!(all.register().err(), Some(NoRoom::SomeAreClosing));
    drop(both);
    assert!(all.register().is_ok());
    drop(third);
}

/// The response was written as far as the client reads it.
fn answer_unread(registered: &Registered) {
    registered.state.begin_answer();
    registered.state.wrote(true);
    registered.state.end_answer();
}

/// The client has read nothing for a moment longer than [`STALLED`].
fn stall(registered: &Registered) {
    let since = Instant::now().checked_sub(STALLED + Duration::from_millis(1)).unwrap();
    registered.state.lock().blocked_since = Some(since);
}

#[test]
fn clients_that_do_not_read_keep_nobody_out() {
    let all = Connections::new(2);
    let [unread, idle] = [(); 2].map(|()| all.register().unwrap());
    answer_unread(&unread);
    stall(&unread);
    assert_eq!(all.shed(), 1);
    assert_eq!([&unread, &idle].map(signal), [Signal::Cut, Signal::KeepOpen]);

    // The signal came before the request whose answer is not read.
    let all = Connections::new(1);
    let one = all.register().unwrap();
    assert_eq!((all.shed(), signal(&one)), (1, Signal::CloseWhenIdle));
    answer_unread(&one);
    assert!(!one.state.closes_now());
    assert_eq!((all.shed(), signal(&one)), (1, Signal::CloseWhenIdle));
    stall(&one);
    assert_eq!((all.shed(), signal(&one)), (1, Signal::Cut));

    // In the middle of an answer.
    let all = Connections::new(1);
    let one = all.register().unwrap();
    one.state.begin_answer();
    one.state.wrote(true);
    assert_eq!((all.shed(), signal(&one)), (0, Signal::KeepOpen));
    stall(&one);
    assert_eq!((all.shed(), signal(&one)), (1, Signal::Cut));
}

#[test]
fn a_client_that_reads_a_long_response_is_not_cut() {
    let all = Connections::new(2);
    let [reads, idle] = [(); 2].map(|()| all.register().unwrap());
    answer_unread(&reads);
    stall(&reads);
    reads.state.wrote(false);
    reads.state.wrote(true);
    assert_eq!(all.shed(), 1);
    assert_eq!([&reads, &idle].map(signal), [Signal::KeepOpen, Signal::CloseWhenIdle], "idle ones first");
    drop(idle);
    assert_eq!((all.shed(), signal(&reads)), (1, Signal::CloseWhenIdle));
    all.cut_stalled(STALLED);
    assert_eq!((all.shed(), signal(&reads)), (1, Signal::CloseWhenIdle));
    assert!(!reads.state.closes_now());
    reads.state.wrote(false);
    assert!(reads.state.closes_now());

    // One that reads for long does not keep idle ones open.
    reads.state.wrote(true);
    let idle = all.register().unwrap();
    assert_eq!((all.shed(), signal(&idle)), (2, Signal::CloseWhenIdle));
}

#[test]
fn a_client_that_stops_reading_in_the_middle_of_an_answer_is_cut_after_a_while() {
    let all = Connections::new(8);
    let [stalled, reads] = [(); 2].map(|()| all.register().unwrap());
    for one in [&stalled, &reads] {
        one.state.begin_answer();
        one.state.wrote(true);
        stall(one);
    }
    // Another try that writes nothing is no progress.
    stalled.state.wrote(true);
    reads.state.wrote(false);
    reads.state.wrote(true);
    all.cut_stalled(Duration::from_secs(3600));
    assert_eq!([&stalled, &reads].map(signal), [Signal::KeepOpen, Signal::KeepOpen]);
    all.cut_stalled(STALLED);
    assert_eq!([&stalled, &reads].map(signal), [Signal::Cut, Signal::KeepOpen]);
}

#[test]
fn a_head_is_cut_if_room_is_needed_unless_it_is_complete_or_the_connection_closes_after_it() {
    let all = Connections::new(1);
    let one = all.register().unwrap();
    assert_eq!((all.shed(), signal(&one)), (1, Signal::CloseWhenIdle));
    one.state.received();
    assert_eq!((all.shed(), signal(&one)), (1, Signal::CloseWhenIdle));

    let all = Connections::new(1);
    let one = all.register().unwrap();
    one.state.received();
    assert_eq!((all.shed(), signal(&one)), (1, Signal::Cut));

    // The head is completed after the decision.
    let one = Connections::new(1).register().unwrap();
    one.state.received();
    one.state.begin_answer();
    one.state.make_room(Signal::Cut);
    assert_eq!(signal(&one), Signal::CloseWhenIdle);
}

#[test]
fn a_slow_head_is_cut_after_its_timeout() {
    let all = Connections::new(8);
    let (slow, idle) = (all.register().unwrap(), all.register().unwrap());
    slow.state.received();
    all.cut_slow_heads(Duration::from_secs(3600));
    assert_eq!(signal(&slow), Signal::KeepOpen);
    std::thread::sleep(Duration::from_millis(2));
    all.cut_slow_heads(Duration::from_millis(1));
    assert_eq!((signal(&slow), signal(&idle)), (Signal::Cut, Signal::KeepOpen));
}

#[test]
fn on_shutdown_idle_connections_close_at_once_and_busy_ones_after_their_response() {
    let all = Connections::new(8);
    let (idle, busy, reading) = (all.register().unwrap(), all.register().unwrap(), all.register().unwrap());
    busy.state.begin_answer();
    reading.state.received();
    all.close_idle();
    assert!(idle.state.closes_now() && !busy.state.closes_now() && !reading.state.closes_now());
    busy.state.wrote(true);
    busy.state.end_answer();
    assert!(!busy.state.closes_now(), "its response is not yet written");
    busy.state.wrote(false);
    assert!(busy.state.closes_now());
    assert!(all.register().unwrap().state.closes_now(), "later connections close as well");
}
