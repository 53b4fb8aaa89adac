use proptest::prelude::*;

use super::*;

const B: u32 = 3;
const MASK: u32 = 4;

fn predictions(log_probs: &[f32]) -> Vec<Prediction> {
    log_probs.iter().map(|&log_prob| Prediction { token: 9, log_prob }).collect()
}

#[test]
fn each_block_gives_its_most_certain_slot_and_ties_go_to_the_lower() {
    let predictions = predictions(&[-3.0, -1.0, -2.0, -0.5, -0.5, -9.0, -4.0]);
    assert_eq!(argmax_per_block(&[0, 1, 2, 3, 4, 5, 6], &predictions, 3), [1, 3, 6]);
    assert_eq!(argmax_per_block(&[0, 1, 5, 6, 7, 8, 11], &predictions, 4), [1, 3, 6]);
    assert_eq!(argmax_per_block(&[2, 3], &predictions, 1), [0, 1]);
    assert_eq!(argmax_per_block(&[], &[], 4), [0usize; 0]);
}

#[test]
fn repeats_are_merged_unless_a_blank_separates_them() {
    let slots = [B, 7, 7, B, 7, 8, B, B, MASK, 8, 9];
    let log_probs = [-0.1, -2.0, -1.0, -0.1, -0.5, -4.0, 0.0, 0.0, 0.0, -0.3, -0.2];
    let (tokens, log_probs) = ctc_collapse(&slots, &log_probs, &Specials::default());
    assert_eq!(tokens, [7, 7, 8, 8, 9]);
    assert_eq!(log_probs, [-1.0, -0.5, -4.0, -0.3, -0.2]);
    assert_eq!(ctc_collapse(&[B, B, MASK], &[0.0; 3], &Specials::default()), (vec![], vec![]));
}

proptest! {
    #[test]
    fn as_many_passes_as_a_block_has_slots_fill_all(
        slots in 0usize..70, block in 1usize..12, scores in prop::collection::vec(-4i8..=0, 1..50),
    ) {
        let mut wanted: Vec<usize> = (0..slots).collect();
        for pass in 0..block {
            let score = |slot: &usize| f32::from(scores[(pass * 13 + slot) % scores.len()]);
            let predictions = predictions(&wanted.iter().map(score).collect::<Vec<_>>());
            let best = argmax_per_block(&wanted, &predictions, block);
            prop_assert!(best.is_sorted());
            let mut written: Vec<usize> = best.into_iter().map(|i| wanted[i]).collect();
            wanted.retain(|slot| !written.contains(slot));
            written.iter_mut().for_each(|slot| *slot /= block);
            written.dedup();
            prop_assert_eq!(written.len(), (pass..slots).step_by(block).count());
        }
        prop_assert!(wanted.is_empty());
    }
}
