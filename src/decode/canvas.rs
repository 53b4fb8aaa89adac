//! One row of mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324) or of an Imputer (Saharia et al. 2020, arXiv 2004.07437):
//! its tokens between two passes, and the rule that a pass applies to them. **Remasking is decided here.**
//!
//! Pure: predictions come in as values, so the rules are tested without a network.

use std::sync::Arc;

use super::prefix::{Reading, TopK, n_best, prefix_beam_search};
use super::slots::{argmax_per_block, ctc_collapse, imputed_token};
use super::{Hypothesis, Prediction, Steps};
use crate::model::{LanguageModel, Refresh, TOP_K};
use crate::text::Specials;
use crate::{Error, Result};

/// The state of one translation candidate of a fixed length.
///
/// Pass t of T (t from 0) fills every masked place with its prediction and remembers the prediction's
/// log-probability as the place's score. Unless it was the last pass, the
/// `k = floor(L·(1 − (t+1)/T))` places of lowest score are masked again, ties at the lower index,
/// where L is the number of inner places.
///
/// Where the network may refresh all places ([`Refresh::All`]), every pass writes all of them,
/// with their scores (CMLMC, Huang et al. 2022).
///
/// An Imputer's canvas ([`Canvas::slots`]) has slots that blanks may fill. Each pass writes one slot of every T
/// neighbours, the most certain one, and no slot is masked again, so T passes fill all. The pass that fills the
/// last of them gets several choices for each and writes the most probable translation
/// (`prefix`). With a language model every pass does so, and writes the tokens of that translation that are most
/// certain.
///
/// A canvas is finished after T passes, or as soon as the next pass could change nothing: none of its
/// places would be masked (short canvases), and those that may be refreshed came out as they stood. Two passes that fill in the same text do not end it: early passes reveal few places, so
/// they often agree on the one-step translation with all its repeats, which the passes after them would
/// have mended (`models/en-de` on 400 validation sentences, repeats kept: 24.5 BLEU at ten steps with such
/// a rule, 27.7 without).
#[derive(Clone, Debug)]
pub struct Canvas {
    /// `bos, inner …, eos`.
    tokens: Vec<u32>,
    /// Log-probability of the token at each place of `tokens`; 0 for bos and eos.
    scores: Vec<f32>,
    /// Places of `tokens` that the network fills, ascending.
    free: Vec<usize>,
    /// Places of `tokens` that the next pass writes, ascending: those of `free` that hold a mask or, until
    /// the canvas is finished, all of them.
    wanted: Vec<usize>,
    rule: Rule,
    steps: Steps,
    used: usize,
    specials: Specials,
    /// What an Imputer's slots are read with.
    lm: Option<Arc<LanguageModel>>,
    /// Number of further translations that an Imputer's slots are read for.
    alternatives: usize,
    /// If there are to be any: for each written slot, its most probable tokens in the pass that wrote it.
    choices: Vec<TopK>,
}

/// What a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    MaskPredict(Refresh),
    Imputer,
}

impl Canvas {
    /// A canvas of `inner_len` masks between bos and eos.
    pub fn new(inner_len: usize, steps: Steps, specials: Specials) -> Self {
        let mut tokens = vec![specials.mask; inner_len + 2];
        tokens[0] = specials.bos;
        tokens[inner_len + 1] = specials.eos;
        let free: Vec<usize> = (1..=inner_len).collect();
        let rule = Rule::MaskPredict(Refresh::default());
        Self::masked(tokens, free, rule, steps, specials)
    }

    /// An Imputer's canvas, of `count` masked slots and nothing else.
    pub fn slots(count: usize, steps: Steps, specials: Specials) -> Self {
        Self::masked(vec![specials.mask; count], (0..count).collect(), Rule::Imputer, steps, specials)
    }

    fn masked(tokens: Vec<u32>, free: Vec<usize>, rule: Rule, steps: Steps, specials: Specials) -> Self {
        let (scores, wanted) = (vec![0.0; tokens.len()], free.clone());
        let (used, lm, alternatives, choices) = (0, None, 0, Vec::new());
        Self { tokens, scores, free, wanted, rule, steps, used, specials, lm, alternatives, choices }
    }

    /// Before the first pass, of an Imputer's canvas: what its slots are read with, if anything.
    #[must_use]
    pub fn read_with(self, lm: Option<Arc<LanguageModel>>) -> Self {
        Self { lm, ..self }
    }

    /// Before the first pass, of an Imputer's canvas: how many further translations
    /// [`alternatives`](Self::alternatives) gives.
    #[must_use]
    pub fn with_alternatives(self, alternatives: usize) -> Self {
        match self.rule {
            Rule::MaskPredict(_) => self,
            Rule::Imputer => Self { alternatives, choices: vec![TopK::new(); self.tokens.len()], ..self },
        }
    }

    /// Before the first pass: what passes may write.
    #[must_use]
    pub fn refreshing(self, refresh: Refresh) -> Self {
        match self.rule {
            Rule::MaskPredict(_) => Self { rule: Rule::MaskPredict(refresh), ..self },
            Rule::Imputer => self,
        }
    }

    /// `bos, inner tokens or masks …, eos`, or slots alone: what the next pass reads.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Log-probability of the token at each place of [`tokens`](Self::tokens).
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The places of [`tokens`](Self::tokens), ascending, that the next pass must predict.
    /// Empty exactly when [`finished`](Self::finished).
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Nothing is left to predict.
    pub fn finished(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether there is only one pass.
    pub fn one_step(&self) -> bool {
        self.steps == Steps::ONE
    }

    /// Whether the next pass is to give [`TOP_K`] predictions for each wanted place: slots are read together, or their
    /// further choices are kept.
    pub fn wants_top_k(&self) -> bool {
        let imputes = self.rule == Rule::Imputer && !self.finished();
        imputes && (self.alternatives > 0 || self.reads_together())
    }

    /// Whether the next pass writes the most probable translation of all slots: with a language model, and where it
    /// fills the last of them.
    fn reads_together(&self) -> bool {
        let block = self.steps.get();
        self.lm.is_some() || self.wanted.windows(2).all(|pair| pair[0] / block != pair[1] / block)
    }

    /// Passes applied so far.
    pub fn steps_used(&self) -> usize {
        self.used
    }

    /// One pass is done: `predictions` answers [`wanted`](Self::wanted), in order, each place with one or as many as
    /// [`wants_top_k`](Self::wants_top_k) says. On a finished canvas with no predictions it does nothing.
    ///
    /// # Errors
    /// [`Error::Model`], and an unchanged canvas, where the number of predictions is wrong, a
    /// predicted token is a special one or a log-probability is NaN.
    pub fn apply(&mut self, predictions: &[Prediction]) -> Result<()> {
        self.check(predictions)?;
        if self.finished() {
            return Ok(());
        }
        self.used += 1;
        match self.rule {
            Rule::MaskPredict(refresh) => self.rewrite(predictions, refresh),
            Rule::Imputer if self.wants_top_k() => self.impute_of_several(predictions),
            Rule::Imputer => self.impute(predictions),
        }
        Ok(())
    }

    fn rewrite(&mut self, predictions: &[Prediction], refresh: Refresh) {
        let mut changed = false; // always where a mask stood, which no prediction is
        for (&place, prediction) in self.wanted.iter().zip(predictions) {
            changed |= self.tokens[place] != prediction.token;
            self.tokens[place] = prediction.token;
            self.scores[place] = prediction.log_prob;
        }
        self.wanted.clear();
        if changed && self.used < self.steps.get() {
            self.remask(refresh);
        }
    }

    /// Writes the most certain slot of each block.
    fn impute(&mut self, predictions: &[Prediction]) {
        for i in argmax_per_block(&self.wanted, predictions, self.steps.get()) {
            let Prediction { token, log_prob } = predictions[i];
            let place = self.wanted[i];
            self.tokens[place] = imputed_token(token, &self.specials);
            self.scores[place] = log_prob;
        }
        let (tokens, mask) = (&self.tokens, self.specials.mask);
        self.wanted.retain(|&place| tokens[place] == mask);
    }

    /// As [`impute`](Self::impute), with [`TOP_K`] predictions for each wanted slot.
    fn impute_of_several(&mut self, predictions: &[Prediction]) {
        let slots = self.slots_with(predictions);
        let best: Vec<Prediction> = if self.reads_together() {
            let filled = prefix_beam_search(&slots, self.specials.blank(), self.lm.as_deref());
            self.wanted.iter().map(|&place| filled[place].into()).collect()
        } else {
            predictions.chunks(TOP_K).filter_map(|choices| choices.first().copied()).collect()
        };
        let wanted = self.wanted.clone();
        self.impute(&best);
        if self.alternatives > 0 {
            for (place, slot) in slots.into_iter().enumerate() {
                if wanted.contains(&place) && self.tokens[place] != self.specials.mask {
                    self.choices[place] = slot;
                }
            }
        }
    }

    /// Every slot: a written one with its token, a wanted one with its choices.
    fn slots_with(&self, predictions: &[Prediction]) -> Vec<TopK> {
        let written = self.tokens.iter().map(|&token| vec![(token, 0.0)]);
        let mut slots: Vec<TopK> = written.collect();
        for (&place, predictions) in self.wanted.iter().zip(predictions.chunks(TOP_K)) {
            let choices = &mut slots[place];
            choices.clear();
            for &Prediction { token, log_prob } in predictions {
                let token = imputed_token(token, &self.specials);
                if choices.iter().all(|choice| choice.0 != token) {
                    choices.push((token, log_prob));
                }
            }
        }
        slots
    }

    /// Of a finished Imputer's canvas with [`with_alternatives`](Self::with_alternatives): the most probable translations
    /// of its slots, best first; among them most often the one on the canvas. Each slot may hold what was probable in
    /// the pass that wrote it.
    pub fn alternatives(&self) -> Vec<Hypothesis> {
        if self.alternatives == 0 || !self.finished() {
            return Vec::new();
        }
        // One more, for the translation on the canvas.
        let count = self.alternatives + 1;
        let readings = n_best(&self.choices, self.specials.blank(), self.lm.as_deref(), count);
        let best = readings.first().map_or(0.0, |reading| reading.score);
        let hypothesis = |reading: Reading| {
            let (slots, log_probs): (Vec<u32>, Vec<f32>) = reading.filling.into_iter().unzip();
            let (tokens, token_log_probs) = ctc_collapse(&slots, &log_probs, &self.specials);
            // On the scale of the canvas' own score: what a slot loses on average.
            let score = self.score() + (reading.score - best) / slots.len().max(1) as f32;
            Hypothesis { tokens, token_log_probs, score }
        };
        readings.into_iter().map(hypothesis).collect()
    }

    /// The mean log-probability of the places that the network fills.
    fn score(&self) -> f32 {
        match self.free.len() {
            0 => 0.0,
            places => self.free.iter().map(|&place| self.scores[place]).sum::<f32>() / places as f32,
        }
    }

    /// The translation on the canvas. `collapse` joins equal neighbours, which parallel decoding tends to repeat; an
    /// Imputer's are always joined, since blanks separate intended repeats. Masks of an unfinished canvas are left
    /// out.
    pub fn finish(self, collapse: bool) -> Hypothesis {
        let score = self.score();
        if self.rule == Rule::Imputer {
            let (tokens, token_log_probs) = ctc_collapse(&self.tokens, &self.scores, &self.specials);
            return Hypothesis { tokens, token_log_probs, score };
        }
        let inner = 1..self.tokens.len() - 1;
        let filled = inner.filter(|&place| self.tokens[place] != self.specials.mask);
        let (tokens, token_log_probs) = filled.map(|place| (self.tokens[place], self.scores[place])).unzip();
        let hypothesis = Hypothesis { tokens, token_log_probs, score };
        if collapse { hypothesis.collapsed() } else { hypothesis }
    }

    /// k = floor(L·(1 − t/T)) after t passes, in whole numbers so that it is the same everywhere.
    fn remask(&mut self, refresh: Refresh) {
        let k = self.free.len() * (self.steps.get() - self.used) / self.steps.get();
        let mut by_score = self.free.clone();
        by_score.sort_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b])); // stable: ties stay ascending
        by_score.truncate(k);
        by_score.sort_unstable();
        for &place in &by_score {
            self.tokens[place] = self.specials.mask;
        }
        self.wanted = match refresh {
            Refresh::Masked => by_score,
            Refresh::All => self.free.clone(),
        };
    }

    fn check(&self, predictions: &[Prediction]) -> Result<()> {
        let choices = if self.wants_top_k() { TOP_K } else { 1 };
        if predictions.len() != self.wanted.len() * choices {
            return Err(Error::Model(format!(
                "{} predictions for {} wanted places, {choices} for each",
                predictions.len(),
                self.wanted.len()
            )));
        }
        for prediction in predictions {
            let allowed = [self.specials.blank(), self.specials.mask];
            let means_nothing = self.rule == Rule::Imputer && allowed.contains(&prediction.token);
            if self.specials.ids().contains(&prediction.token) && !means_nothing {
                return Err(Error::Model(format!("special token {} was predicted", prediction.token)));
            }
            if prediction.log_prob.is_nan() {
                return Err(Error::Model("a prediction's log-probability is NaN".into()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
