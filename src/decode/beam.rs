//! All candidates of one sentence: a canvas for each length, or number of slots, that is tried. The engine
//! and the synchronous driver both decode through this, so a sentence comes out the same by either way.

use rayon::prelude::*;

use super::{
    Canvas, Hypothesis, Prediction, Row, Rules, Steps,
    hypothesis::best_first,
    length::{length_beam, slot_beam},
};
use crate::model::Outline;
use crate::{Error, Result};

/// The canvases of one sentence, most probable length first. They share the encoder's output and
/// finish independently.
#[derive(Clone, Debug)]
pub struct Beam {
    canvases: Vec<Canvas>,
}

impl Beam {
    /// A canvas for each of the `beam` most probable lengths (see [`length_beam`]), or of as many numbers of slots.
    ///
    /// # Errors
    /// [`Error::Model`] where no length is possible.
    pub fn new(outline: &Outline, beam: usize, steps: Steps, rules: &Rules) -> Result<Self> {
        let specials = rules.specials;
        let lengths = match outline {
            Outline::Lengths(log_probs) => length_beam(log_probs, beam),
            &Outline::Slots { count, most } => {
                let slots = |count| Canvas::slots(count, steps, specials).read_with(rules.lm.clone());
                return Ok(Self { canvases: slot_beam(count, most, beam).into_iter().map(slots).collect() });
            }
        };
        if lengths.is_empty() {
            return Err(Error::Model("no target length has a probability".into()));
        }
        let canvas = |length| Canvas::new(length, steps, specials).refreshing(rules.refresh);
        Ok(Self { canvases: lengths.into_iter().map(canvas).collect() })
    }

    /// Every canvas, finished or not, most probable length first.
    pub fn canvases(&self) -> &[Canvas] {
        &self.canvases
    }

    /// The canvases that still want predictions: one row of the next pass each.
    pub fn live(&self) -> impl Iterator<Item = &Canvas> {
        self.canvases.iter().filter(|canvas| !canvas.finished())
    }

    /// The rows of the next pass, in the order in which [`apply`](Self::apply) takes the answers.
    pub fn rows<'a, M>(&'a self, memory: &'a M) -> impl Iterator<Item = Row<'a, M>> {
        self.live().map(move |canvas| Row {
            memory,
            canvas: canvas.tokens(),
            wanted: canvas.wanted(),
            one_step: canvas.one_step(),
            choices: canvas.wants_choices(),
        })
    }

    /// One pass is done: one answer for each of [`rows`](Self::rows), in order.
    ///
    /// # Errors
    /// [`Error::Model`] where the number of answers is wrong or [`Canvas::apply`] refuses one. The
    /// beam is of no further use then.
    pub fn apply<P: AsRef<[Prediction]>>(&mut self, answers: &[P]) -> Result<()> {
        let rows = self.live().count();
        if answers.len() != rows {
            return Err(Error::Model(format!("{} answers for {rows} rows", answers.len())));
        }
        let live = self.canvases.iter_mut().filter(|canvas| !canvas.finished());
        live.zip(answers).try_for_each(|(canvas, answer)| canvas.apply(answer.as_ref()))
    }

    pub fn finished(&self) -> bool {
        self.live().next().is_none()
    }

    /// Passes that the slowest canvas has had.
    pub fn steps_used(&self) -> usize {
        self.canvases.iter().map(Canvas::steps_used).max().unwrap_or(0)
    }

    /// The candidates, best first; equal scores keep the more probable length in front.
    pub fn finish(self, collapse: bool) -> Vec<Hypothesis> {
        let mut hypotheses: Vec<_> = self.canvases.into_iter().map(|c| c.finish(collapse)).collect();
        best_first(&mut hypotheses);
        hypotheses
    }
}

/// One pass is done for many sentences: each beam gets its answers, as [`Beam::apply`] does it.
///
/// Where enough of them are to be searched, the costly part of it, the caller's rayon pool shares them.
pub fn apply_all<P: AsRef<[Prediction]> + Sync>(work: Vec<(&mut Beam, &[P])>) -> Vec<Result<()>> {
    const WORTH_A_THREAD: usize = 4;
    let searched = work.iter().filter(|(beam, _)| beam.live().any(Canvas::wants_choices)).count();
    if searched > WORTH_A_THREAD {
        let work = work.into_par_iter().with_min_len(WORTH_A_THREAD);
        work.map(|(beam, answers)| beam.apply(answers)).collect()
    } else {
        work.into_iter().map(|(beam, answers)| beam.apply(answers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CHOICES;

    fn answer(places: usize, log_prob: f32) -> Vec<Prediction> {
        (0..places).map(|p| Prediction { token: 50 + p as u32, log_prob }).collect()
    }

    fn beam(length_log_probs: &[f32], beam: usize, steps: Steps) -> Result<Beam> {
        let outline = Outline::Lengths(length_log_probs.to_vec());
        Beam::new(&outline, beam, steps, &Rules::default())
    }

    #[test]
    fn many_sentences_get_what_each_gets_alone_and_one_that_is_refused_spoils_no_other() {
        let outline = Outline::Slots { count: 3, most: 4 };
        let new = || Beam::new(&outline, 1, Steps::ONE, &Rules::default()).unwrap();
        let answers = |sentence: u32| -> Vec<Vec<Prediction>> {
            let of_slot = |slot: u32| {
                (0..CHOICES as u32).map(move |choice| Prediction {
                    token: 50 + (sentence + slot * choice) % 7 + 10 * choice,
                    log_prob: -0.7 * (choice + 1) as f32,
                })
            };
            vec![(0..3).flat_map(of_slot).collect()]
        };
        let mut all: Vec<_> = (0..40).map(answers).collect();
        all[17][0].pop();
        let mut beams: Vec<Beam> = all.iter().map(|_| new()).collect();
        let outcomes = apply_all(beams.iter_mut().zip(all.iter().map(Vec::as_slice)).collect());
        for (index, ((beam, own), outcome)) in beams.into_iter().zip(&all).zip(outcomes).enumerate() {
            assert_eq!(outcome.is_err(), index == 17);
            let mut alone = new();
            assert_eq!(alone.apply(own).is_err(), index == 17);
            assert_eq!(beam.finish(false), alone.finish(false));
        }
    }

    #[test]
    fn a_block_of_slots_gets_a_slot_a_pass_and_blanks_are_no_words() {
        let (rules, steps) = (Rules::default(), Steps::new(2).unwrap());
        let outline = Outline::Slots { count: 5, most: 6 };
        let several = Beam::new(&outline, 3, steps, &rules).unwrap();
        assert_eq!(several.canvases().iter().map(|c| c.tokens().len()).collect::<Vec<_>>(), [5, 4, 6]);
        let mut beam = Beam::new(&outline, 1, steps, &rules).unwrap();
        let of = |pairs: &[(u32, f32)]| -> Vec<Prediction> {
            pairs.iter().copied().map(Prediction::from).collect()
        };
        beam.apply(&[of(&[(50, -0.5), (50, -1.0), (3, -0.25), (51, -2.0), (51, -0.75)])]).unwrap();
        let [canvas] = beam.canvases() else { panic!("one canvas") };
        assert_eq!(canvas.tokens(), [50, 4, 3, 4, 51]);
        assert_eq!(canvas.wanted(), [1, 3]);
        assert_eq!(beam.rows(&()).map(|row| row.answers()).collect::<Vec<_>>(), [2 * CHOICES]);
        assert!(
            beam.apply(&[of(&[(50, -1.5), (4, -1.0)])]).is_err(),
            "the pass that fills all gives choices"
        );
        // The mask says nothing, as the blank does.
        let first = [(50, -1.5), (3, -2.0), (52, -3.0), (4, -9.0)];
        let second = [(4, -1.0), (51, -2.0), (3, -8.0), (52, -9.0)];
        beam.apply(&[of(&[first, second].concat())]).unwrap();
        assert!(beam.finished());
        let done = beam.finish(false);
        assert_eq!(done[0].tokens, [50, 51]);
        assert_eq!(done[0].token_log_probs, [-0.5, -0.75]);
        assert_eq!(done[0].score, -4.0 / 5.0);
    }

    #[test]
    fn short_canvases_leave_and_the_best_score_wins() {
        let steps = Steps::new(2).unwrap();
        let mut beam = beam(&[0.0, -1.0, -3.0, -3.0, -0.5], 2, steps).unwrap();
        let rows: Vec<_> = beam.rows(&()).map(|row| row.wanted.len()).collect();
        assert_eq!(rows, [4, 1]);
        beam.apply(&[answer(4, -2.0), answer(1, -1.0)]).unwrap();
        assert_eq!(beam.live().count(), 1, "one place is done after one pass");
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
}
