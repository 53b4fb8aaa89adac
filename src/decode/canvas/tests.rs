use proptest::prelude::*;

use super::*;

fn steps(steps: u8) -> Steps {
    Steps::new(steps).unwrap()
}

fn predictions(of: &[(u32, f32)]) -> Vec<Prediction> {
    of.iter().copied().map(Prediction::from).collect()
}

fn masked(canvas: &Canvas) -> Vec<usize> {
    let mask = Specials::default().mask;
    (0..canvas.tokens().len()).filter(|&place| canvas.tokens()[place] == mask).collect()
}

#[test]
fn the_least_certain_positions_are_masked_again() {
    let mut canvas = Canvas::new(4, steps(2), Specials::default());
    assert_eq!(canvas.tokens(), [1, 4, 4, 4, 4, 2]);
    canvas.apply(&predictions(&[(10, -0.1), (11, -3.0), (12, -0.2), (13, -2.0)])).unwrap();
    assert_eq!(canvas.tokens(), [1, 10, 4, 12, 4, 2]);
    assert_eq!(canvas.wanted(), [2, 4]);
    canvas.apply(&predictions(&[(21, -0.5), (23, -0.25)])).unwrap();
    assert!(canvas.finished());
    let hypothesis = canvas.finish(false);
    assert_eq!(hypothesis.tokens, [10, 21, 12, 23]);
    assert_eq!(hypothesis.token_log_probs, [-0.1, -0.5, -0.2, -0.25]);
    assert!((hypothesis.score - -1.05 / 4.0).abs() < 1e-6);
}

#[test]
fn equal_scores_are_masked_from_the_left() {
    let mut canvas = Canvas::new(6, steps(2), Specials::default());
    canvas.apply(&predictions(&[(9, -1.0); 6])).unwrap();
    assert_eq!(canvas.wanted(), [1, 2, 3]);
}

#[test]
fn equal_text_after_two_passes_does_not_finish_a_canvas() {
    let mut canvas = Canvas::new(10, steps(10), Specials::default());
    for left in (1..=10).rev() {
        canvas.apply(&predictions(&vec![(9, -1.0); left])).unwrap();
    }
    assert!(canvas.finished());
    assert_eq!(canvas.steps_used(), 10);
}

#[test]
fn a_single_word_needs_one_pass_for_any_number_of_steps() {
    let mut canvas = Canvas::new(1, steps(10), Specials::default());
    canvas.apply(&predictions(&[(9, -1.0)])).unwrap();
    assert!(canvas.finished());
    assert_eq!(canvas.steps_used(), 1);
}

#[test]
fn with_refresh_all_a_pass_rewrites_revealed_positions_and_their_scores() {
    let mut canvas = Canvas::new(4, steps(3), Specials::default()).with_refresh(Refresh::All);
    canvas.apply(&predictions(&[(10, -0.1), (11, -3.0), (12, -0.2), (13, -2.0)])).unwrap();
    assert_eq!(canvas.tokens(), [1, 10, 4, 12, 4, 2]);
    assert_eq!(canvas.wanted(), [1, 2, 3, 4]);
    // The first position was certain and is now the least certain; the third has changed.
    canvas.apply(&predictions(&[(10, -5.0), (21, -0.5), (22, -0.3), (23, -0.4)])).unwrap();
    assert_eq!(canvas.tokens(), [1, 4, 21, 22, 23, 2]);
    canvas.apply(&predictions(&[(30, -0.5), (21, -0.25), (22, -0.5), (33, -0.25)])).unwrap();
    assert!(canvas.finished());
    let hypothesis = canvas.finish(false);
    assert_eq!(hypothesis.tokens, [30, 21, 22, 33]);
    assert_eq!(hypothesis.token_log_probs, [-0.5, -0.25, -0.5, -0.25]);
}

#[test]
fn a_corrected_canvas_ends_early_only_if_nothing_is_masked_or_changed() {
    let mut canvas = Canvas::new(1, steps(10), Specials::default()).with_refresh(Refresh::All);
    for (pass, token) in [9, 8, 8].into_iter().enumerate() {
        assert!(!canvas.finished(), "before pass {pass}");
        canvas.apply(&predictions(&[(token, -1.0)])).unwrap();
    }
    assert!(canvas.finished());
    assert_eq!(canvas.steps_used(), 3);
}

#[test]
fn wrong_predictions_are_an_error_and_change_nothing() {
    let mut canvas = Canvas::new(2, steps(1), Specials::default());
    for wrong in [
        predictions(&[(9, -1.0)]),
        predictions(&[(9, -1.0); 3]),
        predictions(&[(9, -1.0), (4, -1.0)]),
        predictions(&[(9, -1.0), (10, f32::NAN)]),
    ] {
        assert!(matches!(canvas.apply(&wrong), Err(Error::Model(_))));
        assert_eq!(canvas.wanted(), [1, 2]);
    }
    canvas.apply(&predictions(&[(9, -1.0); 2])).unwrap();
    assert!(canvas.apply(&predictions(&[(9, -1.0); 2])).is_err(), "a finished canvas expects no predictions");
}

/// Predictions with scores from a small set, so that ties are common.
fn pass(canvas: &Canvas, t: usize, scores: &[u8]) -> Vec<Prediction> {
    let token = |place: usize| 100 + (t * 1000 + place) as u32;
    let score = |place: usize| -f32::from(scores[(t * 7 + place) % scores.len()] % 5);
    canvas.wanted().iter().map(|&place| Prediction { token: token(place), log_prob: score(place) }).collect()
}

#[test]
fn with_a_language_model_every_pass_writes_the_most_probable_translation() {
    use crate::decode::prefix::tests::lm;
    // The two best tokens of each slot; the language model rejects the best pair.
    let first = [(10, 0.45f32.ln()), (12, 0.43f32.ln()), (5, -20.0), (6, -20.0)];
    let second = [(11, 0.45f32.ln()), (12, 0.43f32.ln()), (5, -20.0), (6, -20.0)];
    let slots = || Canvas::slots(2, steps(2), Specials::default());
    let mut alone = slots();
    assert!(!alone.wants_top_k());
    alone.apply(&predictions(&[first[0], second[0]])).unwrap();
    assert_eq!(alone.tokens(), [10, 4]);

    let mut canvas = slots().with_lm(Some(lm(1.0, 0.0).into()));
    assert!(canvas.wants_top_k());
    canvas.apply(&predictions(&[first, second].concat())).unwrap();
    assert_eq!(canvas.tokens(), [12, 4], "11 rarely follows 10");
    assert_eq!(canvas.wanted(), [1]);
    canvas.apply(&predictions(&second)).unwrap();
    assert!(canvas.finished() && !canvas.wants_top_k());
    let hypothesis = canvas.finish(false);
    assert_eq!((hypothesis.tokens, hypothesis.token_log_probs), (vec![12], vec![0.43f32.ln()]));
}

proptest! {
    #[test]
    fn every_pass_masks_as_many_positions_as_the_schedule(
        inner in 0usize..60,
        t_max in 1u8..=12,
        scores in proptest::collection::vec(any::<u8>(), 1..90),
        all: bool,
    ) {
        let refresh = if all { Refresh::All } else { Refresh::Masked };
        let mut canvas = Canvas::new(inner, steps(t_max), Specials::default()).with_refresh(refresh);
        let total = usize::from(t_max);
        prop_assert_eq!(canvas.wanted().len(), inner);
        let mut t = 0;
        while !canvas.finished() {
            let answer = pass(&canvas, t, &scores);
            let before = canvas.tokens().to_vec();
            let wanted = canvas.wanted().to_vec();
            canvas.apply(&answer).unwrap();
            t += 1;

            prop_assert_eq!(canvas.steps_used(), t);
            // floor(L·(1 − t/T)), written as L minus the ceiling of what stays.
            let expected = if t == total { 0 } else { inner - (inner * t).div_ceil(total) };
            let masks = masked(&canvas);
            prop_assert_eq!(masks.len(), expected);
            match refresh {
                Refresh::Masked => prop_assert_eq!(canvas.wanted(), &masks),
                Refresh::All if t == total => prop_assert!(canvas.finished()),
                Refresh::All => prop_assert_eq!(canvas.wanted(), &canvas.free),
            }
            prop_assert_eq!(canvas.tokens().len(), inner + 2);
            // Positions that stay revealed keep their token.
            for (place, &token) in before.iter().enumerate() {
                if !wanted.contains(&place) && !masks.contains(&place) {
                    prop_assert_eq!(canvas.tokens()[place], token);
                }
            }
            // No revealed position ranks before a masked one by (score, index).
            let rank = |place: usize| (canvas.scores[place], place);
            for &low in &masks {
                for &kept in canvas.free.iter().filter(|place| !masks.contains(place)) {
                    prop_assert!(rank(low) < rank(kept));
                }
            }
        }
        prop_assert!(t <= total);
        prop_assert!(t_max > 1 || t == usize::from(inner > 0), "one step is one pass");
        prop_assert!(masked(&canvas).is_empty());
        let hypothesis = canvas.finish(false);
        prop_assert_eq!(hypothesis.tokens.len(), inner);
        prop_assert_eq!(hypothesis.token_log_probs.len(), inner);
    }
}
