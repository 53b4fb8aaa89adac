//! Validation: translations of the validation text, their scores, and samples.

use std::time::Instant;

use super::{Run, Stage};
use crate::Result;
use crate::decode::Decoding;
use crate::decode::Search;
use crate::train::data::texts::Texts;
use crate::train::measure::evaluate::{evaluate, evaluate_search};
use crate::train::objective::Objective;
use crate::train::observe::event::{self, Event};
use crate::train::observe::progress::Progress;

const SAMPLES: usize = 3;

impl<O: Objective> Run<'_, O> {
    /// The first rank's, like what it finds.
    pub(super) fn validate(&mut self, progress: &Progress) -> Result<()> {
        if !self.seat.is_first() {
            return Ok(());
        }
        let begin = Instant::now();
        let Stage { texts, train, validated, scored, .. } = &self.stage;
        let Texts { tokenizer, valid, .. } = texts;
        let (mut scores, mut samples) = (Vec::new(), Vec::new());
        for &decoding in validated {
            let (network, budget) = (&self.validated, train.batch_tokens);
            let done = match decoding {
                Decoding::Steps(steps) => evaluate(network, tokenizer, valid, steps, 1, budget)?,
                Decoding::Beam(beam) => {
                    let options = Search { max_batch_tokens: budget, ..Search::new(beam) };
                    evaluate_search(network, tokenizer, valid, &options)?
                }
            };
            let (bleu, chrf) = (done.measured.bleu, done.measured.chrf);
            scores.push(event::Score { decoding, bleu, chrf });
            let update = self.state.update;
            progress.say(format!("update {update}: BLEU {bleu:.2}, chrF {chrf:.2} with {decoding}"));
            for i in 0..SAMPLES.min(valid.len()) {
                let sample = event::Sample {
                    decoding,
                    source: valid.sources[i].clone(),
                    reference: valid.references[i].clone(),
                    translation: done.texts[i].clone(),
                };
                progress.say(format!("  {} → {}", sample.source, sample.translation));
                samples.push(sample);
            }
            if decoding == *scored {
                self.state.score = Some(bleu);
            }
            let best = self.state.best.entry(format!("bleu@{}", decoding.tag())).or_insert(f64::NEG_INFINITY);
            if decoding == validated[0] {
                let waited = self.state.validations_without_gain + 1;
                self.state.validations_without_gain = if bleu > *best { 0 } else { waited };
            }
            *best = best.max(bleu);
        }
        self.tell(&Event::Valid(event::Valid {
            update: self.state.update,
            seconds: begin.elapsed().as_secs_f64(),
            sentences: valid.len(),
            scores,
            samples,
        }))
    }
}
