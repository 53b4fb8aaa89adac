use super::*;
use crate::model::TOP_K;

fn answer(places: usize, log_prob: f32) -> Vec<Prediction> {
    (0..places).map(|p| Prediction { token: 50 + p as u32, log_prob }).collect()
}

fn beam(length_log_probs: &[f32], beam: usize, steps: Steps) -> Result<LengthBeam> {
    let prediction = LengthPrediction::Lengths(length_log_probs.to_vec());
    LengthBeam::new(&prediction, beam, steps, &DecodingRules::default())
}

#[test]
fn a_sentence_gets_the_same_result_alone_and_among_others_even_if_one_of_them_fails() {
    let prediction = LengthPrediction::Slots { count: 3, max: 4 };
    let new = || LengthBeam::new(&prediction, 1, Steps::ONE, &DecodingRules::default()).unwrap();
    let answers = |sentence: u32| -> Vec<Vec<Prediction>> {
        let of_slot = |slot: u32| {
            (0..TOP_K as u32).map(move |choice| Prediction {
                token: 50 + (sentence + slot * choice) % 7 + 10 * choice,
                log_prob: -0.7 * (choice + 1) as f32,
            })
        };
        vec![(0..3).flat_map(of_slot).collect()]
    };
    let mut all: Vec<_> = (0..40).map(answers).collect();
    all[17][0].pop();
    let mut beams: Vec<LengthBeam> = all.iter().map(|_| new()).collect();
    let outcomes = apply_all(beams.iter_mut().zip(all.iter().map(Vec::as_slice)).collect());
    for (index, ((beam, own), outcome)) in beams.into_iter().zip(&all).zip(outcomes).enumerate() {
        assert_eq!(outcome.is_err(), index == 17);
        let mut alone = new();
        assert_eq!(alone.apply(own).is_err(), index == 17);
        assert_eq!(beam.finish(false), alone.finish(false));
    }
}

#[test]
fn each_pass_fills_one_slot_of_a_block_and_blanks_are_dropped() {
    let (rules, steps) = (DecodingRules::default(), Steps::new(2).unwrap());
    let prediction = LengthPrediction::Slots { count: 5, max: 6 };
    let several = LengthBeam::new(&prediction, 3, steps, &rules).unwrap();
    assert_eq!(several.canvases().iter().map(|c| c.tokens().len()).collect::<Vec<_>>(), [5, 4, 6]);
    let mut beam = LengthBeam::new(&prediction, 1, steps, &rules).unwrap();
    let of =
        |pairs: &[(u32, f32)]| -> Vec<Prediction> { pairs.iter().copied().map(Prediction::from).collect() };
    beam.apply(&[of(&[(50, -0.5), (50, -1.0), (3, -0.25), (51, -2.0), (51, -0.75)])]).unwrap();
    let [canvas] = beam.canvases() else { panic!("one canvas") };
    assert_eq!(canvas.tokens(), [50, 4, 3, 4, 51]);
    assert_eq!(canvas.wanted(), [1, 3]);
    assert_eq!(beam.rows(&()).map(|row| row.prediction_count()).collect::<Vec<_>>(), [2 * TOP_K]);
    assert!(
        beam.apply(&[of(&[(50, -1.5), (4, -1.0)])]).is_err(),
        "the last pass expects the TOP_K best tokens"
    );
    // A mask counts as a blank.
    let first = [(50, -1.5), (3, -2.0), (52, -3.0), (4, -9.0)];
    let second = [(4, -1.0), (51, -2.0), (3, -8.0), (52, -9.0)];
    beam.apply(&[of(&[first, second].concat())]).unwrap();
    assert!(beam.finished());
    let done = beam.finish(false);
    assert_eq!(done[0].tokens, [50, 51]);
    assert_eq!(done[0].token_log_probs, [-0.5, -0.75]);
    assert_eq!(done[0].score, -4.0 / 5.0);
}

/// Predictions for slots: the best tokens of each, one slot after the other.
fn predictions(slots: &[[(u32, f32); TOP_K]]) -> Vec<Prediction> {
    slots.iter().flatten().copied().map(Prediction::from).collect()
}

#[test]
fn alternatives_are_other_texts_by_score_and_the_first_one_is_the_usual_result() {
    let prediction = LengthPrediction::Slots { count: 4, max: 4 };
    for steps in [1, 2] {
        let steps = Steps::new(steps).unwrap();
        let new = || LengthBeam::new(&prediction, 1, steps, &DecodingRules::default()).unwrap();
        let slot = |token: u32| [(token, -0.5), (3, -1.0), (token + 10, -2.0), (token + 20, -4.0)];
        let answer = |beam: &LengthBeam| {
            let rows: Vec<_> = beam.rows(&()).collect();
            let [row] = rows.as_slice() else { panic!("one row") };
            let slots: Vec<_> = row.wanted.iter().map(|&place| slot(50 + place as u32)).collect();
            let all = predictions(&slots);
            if row.top_k { all } else { all.into_iter().step_by(TOP_K).collect() }
        };
        let finish = |mut beam: LengthBeam| {
            while !beam.finished() {
                let answer = answer(&beam);
                beam.apply(&[answer]).unwrap();
            }
            beam.finish(false)
        };
        let (alone, several) = (finish(new()), finish(new().with_alternatives(9)));
        assert_eq!(alone.len(), 1);
        assert_eq!(several[0], alone[0]);
        assert_eq!(several.len(), 10);
        assert!(several.is_sorted_by(|a, b| a.score >= b.score));
        let mut texts: Vec<_> = several.iter().map(|hypothesis| &hypothesis.tokens).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 10);
        assert!(several.iter().all(|hypothesis| hypothesis.tokens.len() == hypothesis.token_log_probs.len()));
    }
}

#[test]
fn short_canvases_finish_first_and_the_best_score_wins() {
    let steps = Steps::new(2).unwrap();
    let mut beam = beam(&[0.0, -1.0, -3.0, -3.0, -0.5], 2, steps).unwrap();
    let rows: Vec<_> = beam.rows(&()).map(|row| row.wanted.len()).collect();
    assert_eq!(rows, [4, 1]);
    beam.apply(&[answer(4, -2.0), answer(1, -1.0)]).unwrap();
    assert_eq!(beam.unfinished().count(), 1, "a canvas of one position takes one pass");
    assert!(beam.apply(&[answer(2, -1.5), answer(1, -1.0)]).is_err());
    beam.apply(&[answer(2, -1.5)]).unwrap();
    assert!(beam.finished());
    assert_eq!(beam.steps_used(), 2);
    let lengths: Vec<_> = beam.finish(false).iter().map(|h| (h.tokens.len(), h.score)).collect();
    assert_eq!(lengths, [(1, -1.0), (4, -1.75)]);
}

#[test]
fn a_sentence_without_a_possible_length_is_an_error() {
    let none = beam(&[0.0, f32::NEG_INFINITY], 3, Steps::ONE);
    assert!(matches!(none, Err(Error::Model(_))));
}
