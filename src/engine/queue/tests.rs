use proptest::prelude::*;

use super::*;

fn cost(steps: usize, tokens: usize) -> RequestCost {
    RequestCost { shape: BatchShape { rows: 1, source: tokens / 2, target: tokens - tokens / 2 }, steps }
}

fn entry<T>(steps: usize, tokens: usize, payload: T) -> Entry<T> {
    Entry { cost: cost(steps, tokens), arrived: Instant::now(), payload }
}

fn order<T: Copy>(queue: &Queue<T>) -> Vec<T> {
    queue.window(usize::MAX).map(|candidate| queue.entries[&candidate.priority].payload).collect()
}

#[test]
fn few_steps_go_first_until_the_many_have_waited_long_enough() {
    let mut queue = Queue::new(10, 100, 2);
    queue.admit(vec![entry(4, 4, "four"), entry(1, 4, "one")]).unwrap();
    assert_eq!(order(&queue), ["one", "four"]);
    (0..6).for_each(|_| queue.advance());
    queue.admit(vec![entry(1, 4, "late one"), entry(4, 4, "late four")]).unwrap();
    assert_eq!(order(&queue), ["one", "four", "late one", "late four"]);
}

#[test]
fn work_before_counts_only_earlier_priorities() {
    let mut queue = Queue::new(10, 100, 2);
    queue.admit(vec![entry(4, 5, "four"), entry(1, 7, "one")]).unwrap();
    assert_eq!(queue.work(), 27);
    assert_eq!([1, 2, 4].map(|steps| queue.work_before(steps)), [7, 7, 27]);
    (0..6).for_each(|_| queue.advance());
    assert_eq!(queue.work_before(1), 27, "both are due by now");
    let taken: Vec<Priority> = queue.window(2).map(|candidate| candidate.priority).collect();
    assert!(taken.iter().all(|&priority| queue.take(priority).is_some()));
    assert_eq!(queue.work(), 0);
    queue.set_running(taken.into_iter().zip([7, 15]));
    assert_eq!((queue.work(), queue.work_before(1)), (22, 22), "running work counts as well");
    queue.set_running(std::iter::empty());
    assert_eq!(queue.work(), 0);
}

#[test]
fn a_request_that_does_not_fit_leaves_the_queue_as_it_was() {
    let mut queue = Queue::new(3, 100, 1);
    queue.admit(vec![entry(1, 30, 'a'), entry(1, 30, 'b')]).unwrap();
    assert_eq!(queue.admit(vec![entry(1, 5, 'c'), entry(1, 5, 'd')]), Err(AdmissionError::Full));
    assert_eq!(queue.admit(vec![entry(1, 41, 'e')]), Err(AdmissionError::Full));
    assert_eq!(order(&queue), ['a', 'b']);
    queue.admit(vec![entry(1, 40, 'f')]).unwrap();
    assert_eq!(order(&queue), ['a', 'b', 'f']);
}

#[test]
fn a_request_larger_than_the_whole_queue_is_never_admitted() {
    let queue = Queue::<()>::new(3, 100, 1);
    assert_eq!(queue.room_for([cost(1, 1); 4].into_iter()), Err(AdmissionError::TooManyItems { items: 4 }));
    let long = queue.room_for([cost(1, 60), cost(1, 60)].into_iter());
    assert_eq!(long, Err(AdmissionError::TooManyTokens { tokens: 120 }));
}

#[test]
fn an_entry_is_taken_once() {
    let mut queue = Queue::new(3, 100, 1);
    queue.admit(vec![entry(1, 10, 'a')]).unwrap();
    let priority = queue.window(1).next().unwrap().priority;
    assert_eq!(queue.take(priority).map(|entry| entry.payload), Some('a'));
    assert!(queue.take(priority).is_none());
}

#[derive(Clone, Debug)]
enum Event {
    Admit(Vec<(usize, usize)>),
    TakeFirst(usize),
    Cancel(usize),
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::collection::vec((1_usize..12, 2_usize..40), 0..6).prop_map(Event::Admit),
        (1_usize..5).prop_map(Event::TakeFirst),
        (0_usize..60).prop_map(Event::Cancel),
        Just(Event::Pass),
    ]
}

proptest! {
    /// After any events: each admitted entry is in the queue or was taken once, the sums are those of the entries
    /// in the queue, and the limits hold.
    #[test]
    fn no_entry_is_lost_or_duplicated_and_the_sums_are_right(
        events in proptest::collection::vec(event(), 0..80),
    ) {
        let mut queue = Queue::new(12, 200, 3);
        let (mut inside, mut outside, mut next) = (Vec::new(), Vec::new(), 0_usize);
        for event in events {
            match event {
                Event::Admit(request) => {
                    let numbered: Vec<_> = request.into_iter().zip(next..).collect();
                    let costs = |&((steps, tokens), number): &((usize, usize), usize)| entry(steps, tokens, number);
                    next += numbered.len();
                    if queue.admit(numbered.iter().map(costs).collect()).is_ok() {
                        inside.extend(numbered);
                    }
                }
                Event::TakeFirst(count) => {
                    let priorities: Vec<_> = queue.window(count).map(|candidate| candidate.priority).collect();
                    let taken = priorities.into_iter().filter_map(|priority| queue.take(priority));
                    outside.extend(taken.map(|entry| entry.payload));
                }
                Event::Cancel(number) => outside.extend(queue.take_if(|&payload| payload == number)),
                Event::Pass => queue.advance(),
            }
            let there: Vec<_> = inside.iter().filter(|(_, number)| !outside.contains(number)).collect();
            prop_assert_eq!(queue.len(), there.len());
            prop_assert_eq!(queue.tokens, there.iter().map(|((_, tokens), _)| tokens).sum::<usize>());
            let work = there.iter().map(|((steps, tokens), _)| steps * tokens).sum::<usize>();
            prop_assert_eq!(queue.work(), work as u64);
            prop_assert!(queue.len() <= 12 && queue.tokens <= 200);
        }
        let mut seen: Vec<_> = order(&queue).into_iter().chain(outside).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, inside.iter().map(|&(_, number)| number).collect::<Vec<_>>());
    }
}
