//! All candidates of one sentence: a canvas for each length (of an Imputer: each number of slots) that is tried. The engine and
//! the synchronous driver both decode with it, so both give the same translation.

use rayon::prelude::*;

use super::{
    Canvas, Hypothesis, Prediction, Row, Rules, Steps,
    hypothesis::best_first,
    length::{length_beam, slot_beam},
};
use crate::model::LengthPrediction;
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
    pub fn new(outline: &LengthPrediction, beam: usize, steps: Steps, rules: &Rules) -> Result<Self> {
        let specials = rules.specials;
        let lengths = match outline {
            LengthPrediction::Lengths(log_probs) => length_beam(log_probs, beam),
            &LengthPrediction::Slots { count, most } => {
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

    /// Also reads an Imputer's slots for so many further translations. Of a network that predicts lengths, the other
    /// canvases are what gives alternatives.
    #[must_use]
    pub fn with_alternatives(self, alternatives: usize) -> Self {
        let canvases = self.canvases.into_iter().map(|canvas| canvas.with_alternatives(alternatives));
        Self { canvases: canvases.collect() }
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
            choices: canvas.wants_top_k(),
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

    /// The candidates, best first; equal scores keep the more probable length in front. The first one is the same
    /// whether or not there are [alternatives](Self::with_alternatives), each of which is another text.
    pub fn finish(self, collapse: bool) -> Vec<Hypothesis> {
        let mut others: Vec<_> = self.canvases.iter().flat_map(Canvas::alternatives).collect();
        best_first(&mut others);
        let mut hypotheses: Vec<_> = self.canvases.into_iter().map(|c| c.finish(collapse)).collect();
        best_first(&mut hypotheses);
        let best = hypotheses.first().map_or(0.0, |hypothesis| hypothesis.score);
        for other in others {
            if hypotheses.iter().all(|known| known.tokens != other.tokens) {
                hypotheses.push(Hypothesis { score: other.score.min(best), ..other });
            }
        }
        if let [_, rest @ ..] = hypotheses.as_mut_slice() {
            best_first(rest);
        }
        hypotheses
    }
}

/// One pass is done for many sentences: each beam gets its answers, as [`Beam::apply`] does it.
///
/// Where enough of them are to be searched, the costly part of it, the caller's rayon pool shares them.
pub fn apply_all<P: AsRef<[Prediction]> + Sync>(work: Vec<(&mut Beam, &[P])>) -> Vec<Result<()>> {
    const WORTH_A_THREAD: usize = 4;
    let searched = work.iter().filter(|(beam, _)| beam.live().any(Canvas::wants_top_k)).count();
    if searched > WORTH_A_THREAD {
        let work = work.into_par_iter().with_min_len(WORTH_A_THREAD);
        work.map(|(beam, answers)| beam.apply(answers)).collect()
    } else {
        work.into_iter().map(|(beam, answers)| beam.apply(answers)).collect()
    }
}

#[cfg(test)]
mod tests;
