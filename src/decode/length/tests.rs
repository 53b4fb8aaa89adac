use proptest::prelude::*;

use super::*;

const NO: f32 = f32::NEG_INFINITY;

#[test]
fn the_most_probable_lengths_come_first_and_ties_go_to_the_shorter() {
    assert_eq!(length_beam(&[-0.1, -3.0, -1.0, -2.0, -1.0], 3), [2, 4, 3]);
}

#[test]
fn impossible_lengths_are_never_tried() {
    assert_eq!(length_beam(&[0.0, NO, -5.0, f32::NAN, f32::INFINITY], 4), [2]);
    assert_eq!(length_beam(&[0.0], 4), [0usize; 0]);
    assert_eq!(length_beam(&[], 1), [0usize; 0]);
}

#[test]
fn slot_beams_lie_around_the_predicted_count() {
    assert_eq!(slot_beam(12, 64, 5), [12, 11, 13, 10, 14]);
    assert_eq!(slot_beam(12, 12, 3), [12, 11, 10]);
    assert_eq!(slot_beam(2, 5, 9), [2, 1, 3, 4, 5]);
    assert_eq!(slot_beam(7, 64, 0), [7]);
}

#[test]
fn a_beam_of_zero_is_a_beam_of_one() {
    assert_eq!(length_beam(&[NO, -2.0, -1.0], 0), [2]);
}

proptest! {
    #[test]
    fn no_skipped_length_is_better_than_a_chosen_one(
        log_probs in proptest::collection::vec(prop_oneof![(-9i8..=0).prop_map(f32::from), Just(NO)], 0..40),
        beam in 1usize..8,
    ) {
        let taken = length_beam(&log_probs, beam);
        let possible = (1..log_probs.len()).filter(|&l| log_probs[l] > NO).count();
        prop_assert_eq!(taken.len(), possible.min(beam));
        for pair in taken.windows(2) {
            prop_assert!((-log_probs[pair[0]], pair[0]) < (-log_probs[pair[1]], pair[1]));
        }
        if let Some(&worst) = taken.last() {
            for out in (1..log_probs.len()).filter(|l| !taken.contains(l)) {
                prop_assert!((-log_probs[worst], worst) < (-log_probs[out], out));
            }
        }
    }
}
