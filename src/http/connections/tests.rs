use super::*;

fn order(registered: &Registered) -> Order {
    registered.state.lock().order
}

#[test]
fn the_longest_idle_connection_is_closed_first_and_one_that_answers_never() {
    let all = Connections::new(3);
    let [first, second, third] = [(); 3].map(|()| all.register().unwrap());
    first.state.begin_answer();
    second.state.begin_answer();
    second.state.end_answer();
    let fourth = all.register().unwrap();
    assert_eq!([&first, &second, &third].map(order), [Order::Stay, Order::Stay, Order::CloseWhenIdle]);
    assert!(third.state.closes_now() && !first.state.closes_now());
    drop(fourth);
}

#[test]
fn nobody_is_let_in_while_all_are_at_work() {
    let all = Connections::new(2);
    let both = [(); 2].map(|()| all.register().unwrap());
    both.iter().for_each(|one| one.state.begin_answer());
    assert_eq!(all.register().err(), Some(NoRoom::AllAtWork));
    both[0].state.end_answer();
    let third = all.register().unwrap();
    assert_eq!(all.register().err(), Some(NoRoom::SomeAreClosing));
    drop(both);
    assert!(all.register().is_ok());
    drop(third);
}

#[test]
fn half_a_head_is_cut_but_only_after_its_time() {
    let all = Connections::new(8);
    let (slow, idle) = (all.register().unwrap(), all.register().unwrap());
    slow.state.received();
    all.cut_slow_heads(Duration::from_secs(3600));
    assert_eq!(order(&slow), Order::Stay);
    std::thread::sleep(Duration::from_millis(2));
    all.cut_slow_heads(Duration::from_millis(1));
    assert_eq!((order(&slow), order(&idle)), (Order::Cut, Order::Stay));
}

#[test]
fn at_the_end_idle_connections_close_and_those_at_work_when_they_are_done() {
    let all = Connections::new(8);
    let (idle, busy, reading) = (all.register().unwrap(), all.register().unwrap(), all.register().unwrap());
    busy.state.begin_answer();
    reading.state.received();
    all.close_idle();
    assert!(idle.state.closes_now() && !busy.state.closes_now() && !reading.state.closes_now());
    busy.state.wrote(true);
    busy.state.end_answer();
    assert!(!busy.state.closes_now(), "its answer is not yet written");
    busy.state.wrote(false);
    assert!(busy.state.closes_now());
    assert!(all.register().unwrap().state.closes_now(), "who comes late closes as well");
}
