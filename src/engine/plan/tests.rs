use proptest::prelude::*;

use super::*;

const BUDGET: Budget = Budget { tokens: 400, rows: 8 };

fn candidate(due: u64, rows: usize, source: usize, target: usize) -> Candidate {
    Candidate { priority: Priority { due, order: due }, shape: BatchShape { rows, source, target } }
}

fn rectangle(candidates: &[Candidate], chosen: &[usize]) -> Rectangle {
    let mut shapes = chosen.iter().map(|&index| candidates[index].shape);
    let first = shapes.next().map(Rectangle::around).unwrap();
    shapes.fold(first, Rectangle::with)
}

#[test]
fn no_candidates_give_an_empty_batch() {
    assert_eq!(plan_batch(&[], BUDGET), Vec::<usize>::new());
}

#[test]
fn the_first_priority_is_chosen_at_any_index() {
    let tight = Budget { tokens: 40, rows: 1 };
    assert_eq!(plan_batch(&[candidate(9, 1, 10, 10), candidate(3, 1, 10, 10)], tight), [1]);
}

#[test]
fn a_sentence_that_does_not_fit_is_skipped_and_later_ones_still_join() {
    let candidates = [candidate(0, 6, 20, 20), candidate(1, 3, 20, 20), candidate(2, 2, 20, 20)];
    assert_eq!(plan_batch(&candidates, BUDGET), [0, 2]);
}

#[test]
fn a_long_sentence_does_not_pad_many_short_ones() {
    let short = |due| candidate(due, 1, 8, 8);
    let roomy = Budget { tokens: 4096, rows: 64 };
    let mut candidates: Vec<Candidate> = (0..20).map(short).collect();
    candidates.push(candidate(20, 1, 100, 100));
    assert_eq!(plan_batch(&candidates, roomy), (0..20).collect::<Vec<_>>());
    candidates[20].priority.due = 0;
    candidates[20].priority.order = 0;
    candidates[0].priority.due = 20;
    assert!(plan_batch(&candidates, roomy).contains(&20), "with the first priority it is chosen");
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_u64..50, 1_usize..=4, 2_usize..=50, 2_usize..=50);
    proptest::collection::vec(one, 1..60).prop_map(|drawn| {
        let number = |(order, (due, rows, source, target)): (usize, (u64, usize, usize, usize))| Candidate {
            priority: Priority { due, order: order as u64 },
            shape: BatchShape { rows, source, target },
        };
        drawn.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #[test]
    fn a_batch_keeps_the_budget_and_contains_the_first_priority(candidates in candidates()) {
        let chosen = plan_batch(&candidates, BUDGET);
        let batch = rectangle(&candidates, &chosen);
        prop_assert!(BUDGET.holds(batch.outer), "{:?}", batch.outer);
        prop_assert!(!batch.wasteful());
        prop_assert!(chosen.is_sorted_by(|a, b| a < b), "each at most once");
        let first = (0..candidates.len()).min_by_key(|&index| candidates[index].priority).unwrap();
        prop_assert!(chosen.contains(&first));
    }

    #[test]
    fn sentences_of_one_size_fill_the_batch(count in 0_u64..20, source in 2_usize..=50, target in 2_usize..=50) {
        let candidates: Vec<_> = (0..count).map(|due| candidate(due, 1, source, target)).collect();
        let room = BUDGET.rows.min(BUDGET.tokens / (source + target));
        let expected: Vec<_> = (0..candidates.len().min(room)).collect();
        prop_assert_eq!(plan_batch(&candidates, BUDGET), expected);
    }
}

#[test]
fn if_too_many_are_active_only_the_first_priority_joins() {
    let active: Vec<_> = (10..42).map(|due| candidate(due, 1, 5, 5)).collect();
    let join = |due: &[u64]| {
        select_admissions(&active, due.iter().map(|&due| candidate(due, 1, 5, 5)), BUDGET).len()
    };
    assert_eq!(join(&[7, 8, 9]), 1);
    assert_eq!(join(&[50, 51]), 0);
    let some = &active[..31];
    assert_eq!(select_admissions(some, (7..10).map(|due| candidate(due, 1, 5, 5)), BUDGET).len(), 3);
}
