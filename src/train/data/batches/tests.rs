use proptest::prelude::*;

use super::*;
use crate::train::rng::Rng; // not the trait of proptest's prelude

fn some_lengths() -> impl Strategy<Value = Vec<PairLengths>> {
    let one = (3usize..60, 3usize..60).prop_map(|(source, target)| PairLengths { source, target });
    prop::collection::vec(one, 1..200)
}

/// Typical sentences: short, with similar lengths on both sides.
fn corpus(pairs: usize) -> Vec<PairLengths> {
    let mut rng = Rng::from_seed(1);
    let mut draw = || {
        let source = 3 + rng.below(6) + rng.below(8) + rng.below(8);
        PairLengths { source, target: (source + rng.below(7)).saturating_sub(2).max(3) }
    };
    (0..pairs).map(|_| draw()).collect()
}

proptest! {
    #[test]
    fn every_pair_is_in_exactly_one_batch(lengths in some_lengths(), seed: u64, epoch in 0u64..5) {
        let plan = BatchPlan::new(&lengths, 128, &Rng::from_seed(seed), epoch).unwrap();
        let mut seen: Vec<usize> = plan.batches.concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
    }

    #[test]
    fn every_batch_has_rows_and_keeps_the_budget(
        lengths in some_lengths(), seed: u64, max_tokens in 60usize..500,
    ) {
        let plan = BatchPlan::new(&lengths, max_tokens, &Rng::from_seed(seed), 0).unwrap();
        for batch in &plan.batches {
            let longest = batch.iter().map(|&i| lengths[i].longest()).max().unwrap_or(0);
            prop_assert!(!batch.is_empty() && batch.len() * longest <= max_tokens);
        }
        prop_assert!((0.0..1.0).contains(&plan.padding_share()));
    }

    #[test]
    fn starting_at_a_position_equals_not_stopping(
        lengths in some_lengths(), seed: u64, taken in 0usize..40,
    ) {
        let rng = Rng::from_seed(seed);
        let mut whole = Batches::new(lengths.clone(), 200, &rng, Position::default()).unwrap();
        for _ in 0..taken {
            whole.next_batch().unwrap();
        }
        let mut resumed = Batches::new(lengths, 200, &rng, whole.position()).unwrap();
        for _ in 0..10 {
            prop_assert_eq!(whole.next_batch().unwrap(), resumed.next_batch().unwrap());
            prop_assert_eq!(whole.position(), resumed.position());
        }
    }
}

#[test]
fn seed_and_epoch_decide_the_order() {
    let lengths = corpus(500);
    let plan = |seed, epoch| BatchPlan::new(&lengths, 512, &Rng::from_seed(seed), epoch).unwrap();
    assert_eq!(plan(1, 0), plan(1, 0));
    assert_ne!(plan(1, 0).batches, plan(1, 1).batches);
    assert_ne!(plan(1, 0).batches, plan(2, 0).batches);
}

#[test]
fn neighbours_change_from_epoch_to_epoch() {
    let lengths = corpus(5_000);
    let with_first = |epoch| {
        let plan = BatchPlan::new(&lengths, 512, &Rng::from_seed(1), epoch).unwrap();
        plan.batches.into_iter().find(|batch| batch.contains(&0)).unwrap()
    };
    let (a, b) = (with_first(0), with_first(1));
    let shared = a.iter().filter(|pair| b.contains(pair)).count();
    assert!(shared * 2 < a.len(), "{shared} of {}", a.len());
}

#[test]
fn little_is_spent_on_padding() {
    let plan = BatchPlan::new(&corpus(50_000), 4_096, &Rng::from_seed(1), 0).unwrap();
    assert!(plan.padding_share() < 0.06, "{}", plan.padding_share());
}

#[test]
fn a_pair_longer_than_a_batch_is_refused() {
    let lengths = [PairLengths { source: 5, target: 5 }, PairLengths { source: 5, target: 99 }];
    let error = BatchPlan::new(&lengths, 64, &Rng::from_seed(1), 0).unwrap_err().to_string();
    assert!(error.contains("pair 1") && error.contains("99") && error.contains("64"), "{error}");
    assert!(BatchPlan::new(&[], 64, &Rng::from_seed(1), 0).is_err());
}

#[test]
fn a_position_past_the_epoch_is_refused() {
    let position = Position { epoch: 2, index: 1_000 };
    assert!(Batches::new(corpus(10), 64, &Rng::from_seed(1), position).is_err());
}
