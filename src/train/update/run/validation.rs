//! Validation: translations of the validation text, their scores, and samples.

use std::time::Instant;

use super::{Run, StageSetup};
use crate::Result;
use crate::decode::{Decoding, SearchOptions};
use crate::train::data::domains::Domain;
use crate::train::measure::evaluate::{Evaluation, evaluate, evaluate_search};
use crate::train::objective::Objective;
use crate::train::observe::event::{self, Event};
use crate::train::observe::progress::Progress;

/// Number of samples of all domains together, for each decoding. Each domain has at least one.
const SAMPLES: usize = 3;

impl<O: Objective> Run<'_, O> {
    /// Validates on the first rank, and keeps the scores there. The best checkpoint is that of the best mean score over
    /// the domains.
    pub(super) fn validate(&mut self, progress: &Progress) -> Result<()> {
        if !self.context.is_first() {
            return Ok(());
        }
        let begin = Instant::now();
        let update = self.state.update;
        let StageSetup { texts, validated, scored, .. } = &self.stage;
        let domains = &texts.domains;
        let (mut scores, mut samples) = (Vec::new(), Vec::new());
        let mut by_domain: Vec<Vec<event::ValidationScore>> = domains.iter().map(|_| Vec::new()).collect();
        for &decoding in validated {
            for (domain, own) in domains.iter().zip(&mut by_domain) {
                let done = self.translate(domain, decoding)?;
                let (bleu, chrf) = (done.scores.bleu, done.scores.chrf);
                own.push(event::ValidationScore { decoding, bleu, chrf });
                if domains.len() > 1 {
                    let name = &domain.name;
                    progress.print(format!(
                        "update {update}, {name}: BLEU {bleu:.2}, chrF {chrf:.2} with {decoding}"
                    ));
                }
                let shown = (SAMPLES / domains.len()).max(1).min(domain.set.len());
                for (i, translation) in done.texts.into_iter().take(shown).enumerate() {
                    let (source, reference) =
                        (domain.set.sources[i].clone(), domain.set.references[i].clone());
                    progress.print(format!("  {source} → {translation}"));
                    samples.push(event::Sample { decoding, source, reference, translation });
                }
            }
            let score = mean(decoding, by_domain.iter().filter_map(|own| own.last()));
            let (bleu, chrf) = (score.bleu, score.chrf);
            progress.print(format!("update {update}: BLEU {bleu:.2}, chrF {chrf:.2} with {decoding}"));
            scores.push(score);
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
        let sentences = domains.iter().map(|domain| domain.set.len()).sum();
        let mut logged = Vec::new();
        if domains.len() > 1 {
            for (domain, scores) in domains.iter().zip(by_domain) {
                let (name, sentences) = (domain.name.clone(), domain.set.len());
                logged.push(event::DomainScores { name, sentences, scores });
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.log_event(&Event::Valid(event::Valid {
            update,
            seconds,
            sentences,
            scores,
            domains: logged,
            samples,
        }))
    }

    fn translate(&self, domain: &Domain, decoding: Decoding) -> Result<Evaluation> {
        let (reader, budget) = (&self.stage.texts.reader, self.stage.train.batch_tokens);
        match decoding {
            Decoding::Steps(steps) => evaluate(&self.validated, reader, &domain.set, steps, 1, budget),
            Decoding::Beam(beam) => {
                let options = SearchOptions { max_batch_tokens: budget, ..SearchOptions::new(beam) };
                evaluate_search(&self.validated, reader, &domain.set, &options)
            }
        }
    }
}

/// The mean score over the domains.
fn mean<'a>(
    decoding: Decoding,
    scores: impl Iterator<Item = &'a event::ValidationScore> + Clone,
) -> event::ValidationScore {
    let count = scores.clone().count().max(1) as f64;
    let sum = |of: fn(&event::ValidationScore) -> f64| scores.clone().map(of).sum::<f64>() / count;
    event::ValidationScore { decoding, bleu: sum(|score| score.bleu), chrf: sum(|score| score.chrf) }
}
