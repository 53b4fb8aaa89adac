//! A sentence that the model thread decodes: the encoder's output and its canvases between two passes.

use std::time::{Duration, Instant};

use super::plan::{BatchShape, Candidate, Priority};
use super::shared::Job;
use super::{CanvasUpdate, Outcome, Schedule, Timings};
use crate::decode::{Canvas, DecodingRules, Encoded, LengthBeam, Row};

pub struct ActiveSentence<M> {
    pub job: Job,
    priority: Priority,
    memory: M,
    beam: LengthBeam,
    /// The canvases after each pass.
    trace: Vec<Vec<Vec<u32>>>,
    /// Number of steps of the first canvas that were sent to the watcher.
    watched: usize,
    timings: Timings,
    encoded_at: Instant,
    /// If the item asked for it.
    schedule: Option<Box<Schedule>>,
}

impl<M> ActiveSentence<M> {
    /// Starts decoding `job`. If the encoder's output is invalid, answers the job with the error.
    pub fn new(
        job: Job,
        priority: Priority,
        encoded: Encoded<M>,
        rules: &DecodingRules,
        picked_at: Instant,
        encoded_at: Instant,
    ) -> Option<Self> {
        let Encoded { memory, length_prediction } = encoded;
        match LengthBeam::new(&length_prediction, job.item.length_beam, job.item.steps, rules) {
            Ok(beam) => {
                let beam = beam.with_alternatives(job.item.alternatives);
                let queue = picked_at.duration_since(job.submitted);
                let timings =
                    Timings { queue, encode: encoded_at.duration_since(picked_at), decode: Duration::ZERO };
                let schedule = job.item.schedule.then(|| {
                    Box::new(Schedule {
                        submitted: job.submitted,
                        picked: picked_at,
                        encoded: encoded_at,
                        passes: Vec::with_capacity(job.item.steps.get()),
                    })
                });
                let (trace, watched) = (Vec::new(), 0);
                Some(Self { job, priority, memory, beam, trace, watched, timings, encoded_at, schedule })
            }
            Err(error) => {
                job.answer(Err(error));
                None
            }
        }
    }

    /// Its shape in the next pass. Finished canvases do not count.
    pub fn candidate(&self) -> Candidate {
        let target = self.beam.unfinished().map(|canvas| canvas.tokens().len()).max().unwrap_or(0);
        let shape =
            BatchShape { rows: self.beam.unfinished().count(), source: self.job.item.source.len(), target };
        Candidate { priority: self.priority, shape }
    }

    /// Its priority and remaining work: tokens times passes.
    pub fn remaining_work(&self) -> (Priority, u64) {
        let passes = self.job.item.steps.get().saturating_sub(self.steps_used());
        (self.priority, (self.candidate().shape.tokens() as u64).saturating_mul(passes as u64))
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_, M>> {
        self.beam.rows(&self.memory)
    }

    /// Target tokens of the next pass, without padding.
    pub fn target_tokens(&self) -> usize {
        self.beam.unfinished().map(|canvas| canvas.tokens().len()).sum()
    }

    /// Takes the predictions for [`rows`](Self::rows).
    pub fn beam(&mut self) -> &mut LengthBeam {
        &mut self.beam
    }

    /// Records a pass whose predictions the beam has taken: for the schedule, the trace and the watcher.
    pub fn record_pass(&mut self, started: Instant, ended: Instant) {
        if let Some(schedule) = &mut self.schedule {
            schedule.passes.push((started, ended));
        }
        if self.job.item.trace {
            let canvases = self.beam.canvases().iter();
            self.trace.push(canvases.map(|canvas| canvas.tokens().to_vec()).collect());
        }
        if let (Some(watch), Some(canvas)) = (&self.job.item.watch, self.beam.canvases().first())
            && canvas.steps_used() > self.watched
        {
            self.watched = canvas.steps_used();
            // An error means that the watcher has disconnected.
            let _ = watch.sender.send(CanvasUpdate {
                index: watch.index,
                step: canvas.steps_used(),
                canvas: canvas.tokens().to_vec(),
                log_probs: canvas.scores().to_vec(),
                at: Instant::now(),
            });
        }
    }

    pub fn finished(&self) -> bool {
        self.beam.finished()
    }

    /// Number of decoder passes so far.
    pub fn steps_used(&self) -> usize {
        self.beam.steps_used()
    }

    /// Answers the caller.
    pub fn finish(self, now: Instant) {
        let Self { job, beam, trace, mut timings, encoded_at, schedule, .. } = self;
        timings.decode = now.duration_since(encoded_at);
        let steps_used = beam.steps_used();
        let trace = job.item.trace.then(|| trace_of_best(beam.canvases(), trace));
        let (hypotheses, lowered) = (beam.finish(job.item.collapse), job.lowered);
        job.answer(Ok(Outcome { hypotheses, steps_used, lowered, timings, trace, schedule }));
    }
}

/// The canvases after each pass of the candidate that [`LengthBeam::finish`] ranks first. The trace ends with the last
/// pass of that candidate, even if others took more.
fn trace_of_best(canvases: &[Canvas], trace: Vec<Vec<Vec<u32>>>) -> Vec<Vec<u32>> {
    let score = |index: &usize| canvases[*index].clone().finish(false).score;
    // Of equal scores the earlier candidate wins; `max_by` would return the later one.
    let best = (0..canvases.len()).rev().max_by(|a, b| score(a).total_cmp(&score(b)));
    let Some(best) = best else { return Vec::new() };
    let passes = canvases[best].steps_used();
    trace.into_iter().take(passes).filter_map(|mut after| after.get_mut(best).map(std::mem::take)).collect()
}
