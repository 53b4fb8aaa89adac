//! The canvases of one sentence: one for each target length (for an Imputer: each number of slots) that is tried. The
//! engine and [`translate`](super::translate) both decode with it, so their translations are equal.

use rayon::prelude::*;

use super::{
    Canvas, DecodingRules, Hypothesis, Prediction, Row, Steps,
    hypothesis::best_first,
    length::{length_beam, slot_beam},
};
use crate::model::LengthPrediction;
use crate::{Error, Result};

/// The canvases of one sentence, most probable length first. They share the encoder's output and finish
/// independently.
#[derive(Clone, Debug)]
pub struct LengthBeam {
    canvases: Vec<Canvas>,
}

impl LengthBeam {
    /// One canvas for each of the `beam` most probable lengths (see [`length_beam`]), or for as many numbers of
    /// slots.
    ///
    /// # Errors
    /// [`Error::Model`] if no length has a positive probability.
    pub fn new(
        prediction: &LengthPrediction,
        beam: usize,
        steps: Steps,
        rules: &DecodingRules,
    ) -> Result<Self> {
        let specials = rules.specials;
        let lengths = match prediction {
            LengthPrediction::Lengths(log_probs) => length_beam(log_probs, beam),
            &LengthPrediction::Slots { count, max } => {
                let slots = |count| Canvas::slots(count, steps, specials).with_lm(rules.lm.clone());
                return Ok(Self { canvases: slot_beam(count, max, beam).into_iter().map(slots).collect() });
            }
        };
        if lengths.is_empty() {
            return Err(Error::Model("no target length has a probability".into()));
        }
        let canvas = |length| Canvas::new(length, steps, specials).with_refresh(rules.refresh);
        Ok(Self { canvases: lengths.into_iter().map(canvas).collect() })
    }

    /// Makes the canvas of an Imputer give up to `alternatives` further translations. It has no effect on a network
    /// that predicts lengths, whose other canvases are the alternatives.
    #[must_use]
    pub fn with_alternatives(self, alternatives: usize) -> Self {
        let canvases = self.canvases.into_iter().map(|canvas| canvas.with_alternatives(alternatives));
        Self { canvases: canvases.collect() }
    }

    /// All canvases, most probable length first.
    pub fn canvases(&self) -> &[Canvas] {
        &self.canvases
    }

    /// The canvases that are not finished. Each is one row of the next pass.
    pub fn unfinished(&self) -> impl Iterator<Item = &Canvas> {
        self.canvases.iter().filter(|canvas| !canvas.finished())
    }

    /// The rows of the next pass, in the order in which [`apply`](Self::apply) expects the predictions.
    pub fn rows<'a, M>(&'a self, memory: &'a M) -> impl Iterator<Item = Row<'a, M>> {
        self.unfinished().map(move |canvas| Row {
            memory,
            canvas: canvas.tokens(),
            wanted: canvas.wanted(),
            top_k: canvas.wants_top_k(),
        })
    }

    /// Applies the predictions of a pass: one slice for each of [`rows`](Self::rows), in order.
    ///
    /// # Errors
    /// [`Error::Model`] if the number of slices is wrong or [`Canvas::apply`] fails. The beam must not be used after
    /// that.
    pub fn apply<P: AsRef<[Prediction]>>(&mut self, predictions: &[P]) -> Result<()> {
        let rows = self.unfinished().count();
        if predictions.len() != rows {
            return Err(Error::Model(format!("predictions for {} rows; expected {rows}", predictions.len())));
        }
        let unfinished = self.canvases.iter_mut().filter(|canvas| !canvas.finished());
        unfinished.zip(predictions).try_for_each(|(canvas, own)| canvas.apply(own.as_ref()))
    }

    pub fn finished(&self) -> bool {
        self.unfinished().next().is_none()
    }

    /// Number of passes of the canvas that took most.
    pub fn steps_used(&self) -> usize {
        self.canvases.iter().map(Canvas::steps_used).max().unwrap_or(0)
    }

    /// The candidates, best first. Of equal scores the more probable length comes first. The first candidate does not
    /// depend on the number of [alternatives](Self::with_alternatives), and no alternative has the same text.
    pub fn finish(self, collapse: bool) -> Vec<Hypothesis> {
        let mut others: Vec<_> = self.canvases.iter().flat_map(Canvas::alternatives).collect();
        best_first(&mut others);
        let mut hypotheses: Vec<_> = self.canvases.into_iter().map(|c| c.finish(collapse)).collect();
        best_first(&mut hypotheses);
        let best = hypotheses.first().map_or(0.0, |hypothesis| hypothesis.score);
        for other in others {
            if hypotheses.iter().all(|hypothesis| hypothesis.tokens != other.tokens) {
                hypotheses.push(Hypothesis { score: other.score.min(best), ..other });
            }
        }
        if let [_, rest @ ..] = hypotheses.as_mut_slice() {
            best_first(rest);
        }
        hypotheses
    }
}

/// Applies the predictions of a pass to the beams of many sentences, as [`LengthBeam::apply`] does.
///
/// Prefix beam search is the expensive part. If more than a few beams need it, the caller's rayon pool shares the
/// work.
pub fn apply_all<P: AsRef<[Prediction]> + Sync>(work: Vec<(&mut LengthBeam, &[P])>) -> Vec<Result<()>> {
    const MIN_BEAMS_PER_THREAD: usize = 4;
    let searched = work.iter().filter(|(beam, _)| beam.unfinished().any(Canvas::wants_top_k)).count();
    if searched > MIN_BEAMS_PER_THREAD {
        let work = work.into_par_iter().with_min_len(MIN_BEAMS_PER_THREAD);
        work.map(|(beam, predictions)| beam.apply(predictions)).collect()
    } else {
        work.into_iter().map(|(beam, predictions)| beam.apply(predictions)).collect()
    }
}

#[cfg(test)]
mod tests;
