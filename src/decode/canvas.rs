//! One candidate of mask-predict (Ghazvininejad et al. 2019, arXiv 1904.09324) or of an Imputer (Saharia et al. 2020,
//! arXiv 2004.07437): its tokens between passes, and how a pass changes them. **Remasking is decided here.**
//!
//! Pure functions of predictions, so the rules are tested without a network.

use std::sync::Arc;

use super::prefix::{RankedFilling, TopK, n_best, prefix_beam_search};
use super::slots::{argmax_per_block, ctc_collapse, imputed_token};
use super::{Hypothesis, Prediction, Steps};
use crate::model::{LanguageModel, Refresh, TOP_K};
use crate::text::Specials;
use crate::{Error, Result};

/// The state of one translation candidate of a fixed length.
///
/// # Mask-predict
///
/// Pass t of T (from 0) replaces every mask with the predicted token and stores its log-probability as the score of
/// the position. After each pass but the last, the `k = floor(L·(1 − (t+1)/T))` inner positions with the lowest
/// scores are masked again; of equal scores the lower index is masked. L is the number of inner positions.
///
/// With [`Refresh::All`] (CMLMC, Huang et al. 2022) a pass rewrites all positions and their scores, masked or not.
///
/// A canvas is finished after T passes, or earlier if the next pass could not change it: no position would be masked,
/// or no token has changed in a pass. Equal text after two passes does not finish it: early passes reveal few
/// positions and often agree on the one-step translation, whose repeats later passes correct. With a CMLM for Tatoeba
/// (the model of commit 3f8040c) on 400 validation sentences, repeats kept, stopping there gives 24.5 BLEU at ten steps
/// instead of 27.7.
///
/// # Imputer
///
/// The canvas of an Imputer ([`Canvas::slots`]) consists of slots, which hold tokens or blanks. Each pass fills the
/// most certain slot of every T neighbours, and no slot is masked again, so T passes fill all. The last pass gets the
/// [`TOP_K`] best tokens of each slot and fills them with the most probable translation (module `prefix`). With a
/// language model every pass runs this search and writes the most certain slots of its result.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// `bos, inner …, eos`.
    tokens: Vec<u32>,
    /// Log-probability of each of `tokens`; 0 for bos and eos.
    scores: Vec<f32>,
    /// Positions of `tokens` that the network fills, ascending.
    free: Vec<usize>,
    /// Positions that the next pass predicts, ascending: the masked ones or, with [`Refresh::All`], all of `free`.
    /// Empty when the canvas is finished.
    wanted: Vec<usize>,
    rule: Rule,
    steps: Steps,
    /// Number of passes applied.
    used: usize,
    specials: Specials,
    /// Language model for the prefix search over an Imputer's slots.
    lm: Option<Arc<LanguageModel>>,
    /// Number of further translations that an Imputer gives.
    alternatives: usize,
    /// With alternatives: for each written slot, its most probable tokens in the pass that wrote it. Otherwise empty.
    written_top_k: Vec<TopK>,
}

/// How a pass changes the canvas.
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

    /// The canvas of an Imputer: `count` masked slots, without bos and eos.
    pub fn slots(count: usize, steps: Steps, specials: Specials) -> Self {
        Self::masked(vec![specials.mask; count], (0..count).collect(), Rule::Imputer, steps, specials)
    }

    fn masked(tokens: Vec<u32>, free: Vec<usize>, rule: Rule, steps: Steps, specials: Specials) -> Self {
        let (scores, wanted) = (vec![0.0; tokens.len()], free.clone());
        let (used, lm, alternatives, written_top_k) = (0, None, 0, Vec::new());
        Self { tokens, scores, free, wanted, rule, steps, used, specials, lm, alternatives, written_top_k }
    }

    /// Sets the language model of an Imputer's canvas. Call it before the first pass.
    #[must_use]
    pub fn with_lm(self, lm: Option<Arc<LanguageModel>>) -> Self {
        Self { lm, ..self }
    }

    /// Makes the canvas of an Imputer give up to `alternatives` further translations, see
    /// [`alternatives`](Self::alternatives). Call it before the first pass.
    #[must_use]
    pub fn with_alternatives(self, alternatives: usize) -> Self {
        match self.rule {
            Rule::MaskPredict(_) => self,
            Rule::Imputer => {
                Self { alternatives, written_top_k: vec![TopK::new(); self.tokens.len()], ..self }
            }
        }
    }

    /// Sets which positions a pass rewrites. Call it before the first pass; it has no effect on an Imputer's canvas.
    #[must_use]
    pub fn with_refresh(self, refresh: Refresh) -> Self {
        match self.rule {
            Rule::MaskPredict(_) => Self { rule: Rule::MaskPredict(refresh), ..self },
            Rule::Imputer => self,
        }
    }

    /// The input of the next pass: `bos, inner tokens or masks …, eos`, or only the slots of an Imputer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Log-probability of each of [`tokens`](Self::tokens).
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The indices into [`tokens`](Self::tokens), ascending, that the next pass predicts. Empty exactly when
    /// [`finished`](Self::finished).
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Whether no position is left to predict.
    pub fn finished(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether the next pass needs the [`TOP_K`] best tokens of each wanted position: for the prefix search, or to keep
    /// them for the alternatives.
    pub fn wants_top_k(&self) -> bool {
        let imputes = self.rule == Rule::Imputer && !self.finished();
        imputes && (self.alternatives > 0 || self.uses_prefix_search())
    }

    /// Whether the next pass writes the most probable translation of all slots: if there is a language model, or if
    /// the pass fills the last slots.
    fn uses_prefix_search(&self) -> bool {
        let block = self.steps.get();
        self.lm.is_some() || self.wanted.windows(2).all(|pair| pair[0] / block != pair[1] / block)
    }

    /// Passes applied so far.
    pub fn steps_used(&self) -> usize {
        self.used
    }

    /// Applies the predictions of a pass, in the order of [`wanted`](Self::wanted): [`TOP_K`] for each position if
    /// [`wants_top_k`](Self::wants_top_k), best first, otherwise one. A finished canvas with no predictions stays as
    /// it is.
    ///
    /// # Errors
    /// [`Error::Model`] if the number of predictions is wrong, a predicted token is a special one or a
    /// log-probability is NaN. The canvas is unchanged then.
    pub fn apply(&mut self, predictions: &[Prediction]) -> Result<()> {
        self.check(predictions)?;
        if self.finished() {
            return Ok(());
        }
        self.used += 1;
        match self.rule {
            Rule::MaskPredict(refresh) => self.rewrite(predictions, refresh),
            Rule::Imputer if self.wants_top_k() => self.impute_from_top_k(predictions),
            Rule::Imputer => self.impute(predictions),
        }
        Ok(())
    }

    fn rewrite(&mut self, predictions: &[Prediction], refresh: Refresh) {
        let mut changed = false; // true wherever a mask is replaced, since a mask is never predicted
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

    /// Fills the most certain slot of each block.
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

    /// Does what [`impute`](Self::impute) does, given [`TOP_K`] predictions for each wanted slot.
    fn impute_from_top_k(&mut self, predictions: &[Prediction]) {
        let slots = self.slots_with(predictions);
        let best: Vec<Prediction> = if self.uses_prefix_search() {
            let filled = prefix_beam_search(&slots, self.specials.blank(), self.lm.as_deref());
            self.wanted.iter().map(|&place| filled[place].into()).collect()
        } else {
            predictions.chunks(TOP_K).filter_map(|top| top.first().copied()).collect()
        };
        let wanted = self.wanted.clone();
        self.impute(&best);
        if self.alternatives > 0 {
            for (place, slot) in slots.into_iter().enumerate() {
                if wanted.contains(&place) && self.tokens[place] != self.specials.mask {
                    self.written_top_k[place] = slot;
                }
            }
        }
    }

    /// All slots: a written one with its token, a wanted one with its predictions.
    fn slots_with(&self, predictions: &[Prediction]) -> Vec<TopK> {
        let written = self.tokens.iter().map(|&token| vec![(token, 0.0)]);
        let mut slots: Vec<TopK> = written.collect();
        for (&place, predictions) in self.wanted.iter().zip(predictions.chunks(TOP_K)) {
            let slot = &mut slots[place];
            slot.clear();
            for &Prediction { token, log_prob } in predictions {
                let token = imputed_token(token, &self.specials);
                if slot.iter().all(|candidate| candidate.0 != token) {
                    slot.push((token, log_prob));
                }
            }
        }
        slots
    }

    /// The most probable translations of the slots, best first, of a finished canvas of an Imputer with
    /// [`with_alternatives`](Self::with_alternatives); empty otherwise. The translation on the canvas is usually one of
    /// them. Each slot takes the tokens that were probable in the pass that wrote it.
    pub fn alternatives(&self) -> Vec<Hypothesis> {
        if self.alternatives == 0 || !self.finished() {
            return Vec::new();
        }
        // One more, for the translation on the canvas.
        let count = self.alternatives + 1;
        let ranked = n_best(&self.written_top_k, self.specials.blank(), self.lm.as_deref(), count);
        let best = ranked.first().map_or(0.0, |best| best.score);
        let hypothesis = |ranked: RankedFilling| {
            let (slots, log_probs): (Vec<u32>, Vec<f32>) = ranked.filling.into_iter().unzip();
            let (tokens, token_log_probs) = ctc_collapse(&slots, &log_probs, &self.specials);
            // On the scale of the canvas' score: the mean over its slots.
            let score = self.score() + (ranked.score - best) / slots.len().max(1) as f32;
            Hypothesis { tokens, token_log_probs, score }
        };
        ranked.into_iter().map(hypothesis).collect()
    }

    /// Mean log-probability of the positions that the network fills; 0 if there are none.
    fn score(&self) -> f32 {
        match self.free.len() {
            0 => 0.0,
            places => self.free.iter().map(|&place| self.scores[place]).sum::<f32>() / places as f32,
        }
    }

    /// The translation. `collapse` merges equal neighbours, which parallel decoding tends to repeat; those of an
    /// Imputer are always merged, since blanks separate true repeats. Masks of an unfinished canvas are left out.
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

    /// Masks k = floor(L·(1 − t/T)) positions after t passes. Integer arithmetic, so that k is the same on every
    /// machine.
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
        let each = if self.wants_top_k() { TOP_K } else { 1 };
        if predictions.len() != self.wanted.len() * each {
            return Err(Error::Model(format!(
                "{} predictions for {} wanted positions; expected {each} for each",
                predictions.len(),
                self.wanted.len()
            )));
        }
        for prediction in predictions {
            let blanks = [self.specials.blank(), self.specials.mask];
            let is_blank = self.rule == Rule::Imputer && blanks.contains(&prediction.token);
            if self.specials.ids().contains(&prediction.token) && !is_blank {
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
