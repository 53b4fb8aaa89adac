//! The target of DiMS: the output of the teacher after n passes over the same canvas.
//!
//! Mask-predict over a fixed set M of positions: each pass rewrites all of M and then masks the least certain
//! positions again, fewer each time and none at the end. A pass of an Imputer writes one of every n adjacent slots;
//! the target of a slot is the output of the pass that wrote it.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use crate::Result;
use crate::decode::{
    DecodeOptions, DecodingRules, Hypothesis, Prediction, Translator, argmax_per_block, imputed_token,
    translate_by,
};
use crate::model::quantized::{QuantizedCanvas, QuantizedNetwork, SentenceKeys};
use crate::model::{LanguageModel, Tensors};
use crate::model::{Memory, Network, Padded, Shape};
use crate::nn::{Mode, ops};
use crate::train::data::corpus::Pair;
use crate::train::data::masking::Masked;
use crate::train::objective::flat;

/// The teacher. It gets no gradients. If its weights are a moving average, it follows them.
pub struct Teacher {
    network: Network,
    eight_bit: Option<EightBit>,
}

/// The teacher with 8-bit products: several times faster, and the same numbers as on the server.
struct EightBit {
    /// The weights of the network, in the same memory.
    weights: Tensors,
    /// The quantised network, unless the teacher `follows`: then its weights may change between calls.
    kept: Mutex<Option<Arc<QuantizedNetwork>>>,
    follows: bool,
}

/// The output of the last of n teacher passes, at the masked positions.
pub struct Targets {
    /// Last decoder states, `[positions, d]`. [`Teacher::logits`] scores them over the vocabulary, which not all losses
    /// need.
    pub hidden: Tensor,
    /// What an Imputer wrote to each slot; empty for other networks.
    pub tokens: Vec<u32>,
}

impl Teacher {
    /// Computes products in the precision of the `mode` of each call, that of the student.
    pub fn exact(network: Network) -> Self {
        Self { network, eight_bit: None }
    }

    /// Computes products in 8 bits. `weights` are those of `network`, in the same memory; with `follows` they change
    /// between updates. Only the final scores over the vocabulary are computed by `network`.
    pub fn eight_bit(network: Network, weights: Tensors, follows: bool) -> Self {
        Self { network, eight_bit: Some(EightBit { weights, kept: Mutex::default(), follows }) }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Scores of decoder states over the vocabulary, `[positions, vocab]`.
    pub fn logits(&self, hidden: &Tensor, mode: &Mode) -> Result<Tensor> {
        Ok(self.network.logits(hidden, mode)?)
    }

    /// The log-probabilities of chosen classes for each decoder state.
    pub fn log_probs_of(&self, hidden: &Tensor, classes: &ops::Classes, mode: &Mode) -> Result<Vec<f32>> {
        let forbidden = self.network.forbidden();
        let output = self.network.output(hidden, forbidden, mode);
        Ok(ops::without_gradients(|| output.log_probs_of(classes))?)
    }

    /// Translates `sources`, with products in f32 or 8 bits. Returns the best translation of each, without bos and eos.
    /// `lm` takes part in the search over an Imputer's slots.
    pub fn translate(
        &self,
        sources: &[Vec<u32>],
        options: &DecodeOptions,
        lm: Option<&Arc<LanguageModel>>,
    ) -> Result<Vec<Vec<u32>>> {
        let rules = DecodingRules { lm: lm.cloned(), ..self.network.rules() };
        let translations = match &self.eight_bit {
            Some(eight_bit) => {
                translate_by(&rules, &*eight_bit.network(self.network.shape())?, sources, options)?
            }
            None => translate_by(&rules, &self.network, sources, options)?,
        };
        let best = |hypotheses: Vec<Hypothesis>| hypotheses.into_iter().next().unwrap_or_default().tokens;
        Ok(translations.into_iter().map(best).collect())
    }

    /// Runs the encoder.
    pub fn encode(&self, pairs: &[&Pair], mode: &Mode) -> Result<EncodedSources> {
        let network = &self.network;
        let sources: Vec<&[u32]> = pairs.iter().map(|pair| pair.source.as_slice()).collect();
        let (memory, classes) = match &self.eight_bit {
            Some(eight_bit) => {
                let eight_bit = eight_bit.network(network.shape())?;
                let (keys, classes) = eight_bit.encode_sentences(&sources)?.into_iter().unzip();
                (TeacherMemory::EightBit(eight_bit, keys), classes)
            }
            None => {
                let padded = Padded::new(sources.iter().copied(), network.specials().pad, network.device())?;
                let states = network.encode(&padded, mode)?;
                let classes = network.length_log_probs(&states, &padded.lengths, mode)?;
                (TeacherMemory::Exact(network.memory(&states, &padded.lengths, mode)?), classes)
            }
        };
        let shape = network.shape();
        let scores = |(classes, source): (&Vec<f32>, &&[u32])| {
            shape.predict_length(classes, source.len()).into_length_log_probs()
        };
        Ok(EncodedSources { memory, length_log_probs: classes.iter().zip(&sources).map(scores).collect() })
    }

    /// The targets of the rows `masked`, whose sources are `source`. `passes` is n; 0 counts as 1.
    pub fn targets(
        &self,
        source: &EncodedSources,
        masked: &[Masked],
        passes: usize,
        mode: &Mode,
    ) -> Result<Targets> {
        if self.network.shape().has_blanks() {
            self.imputed(&source.memory, masked, passes.max(1), mode)
        } else {
            self.refreshed(&source.memory, masked, passes, mode)
        }
    }

    fn refreshed(
        &self,
        memory: &TeacherMemory,
        masked: &[Masked],
        passes: usize,
        mode: &Mode,
    ) -> Result<Targets> {
        let mut canvases: Vec<Vec<u32>> = masked.iter().map(|m| m.canvas.clone()).collect();
        let places: Vec<&[u32]> = masked.iter().map(|m| m.positions.as_slice()).collect();
        for pass in 1..passes {
            let best = self.best(memory, &places, &canvases, mode)?;
            let mut rest = best.as_slice();
            for (canvas, m) in canvases.iter_mut().zip(masked) {
                let (own, after) = rest.split_at(m.positions.len());
                let left = masks_left(m.positions.len(), pass, passes);
                refresh(canvas, &m.positions, own, left, self.network.specials().mask);
                rest = after;
            }
        }
        let hidden = self.hidden(memory, &places, &canvases, mode)?;
        Ok(Targets { hidden, tokens: Vec::new() })
    }

    fn imputed(
        &self,
        memory: &TeacherMemory,
        masked: &[Masked],
        passes: usize,
        mode: &Mode,
    ) -> Result<Targets> {
        let specials = self.network.specials();
        let mut canvases: Vec<Vec<u32>> = masked.iter().map(|m| m.canvas.clone()).collect();
        // The slots of each row that are still masked, each with its index among all of M.
        let mut place = 0u32..;
        let mut open: Vec<Vec<(u32, u32)>> =
            masked.iter().map(|m| m.positions.iter().copied().zip(&mut place).collect()).collect();
        let (mut hidden, mut written) = (Vec::new(), Vec::new());
        let mut tokens = vec![specials.mask; masked.iter().map(|m| m.positions.len()).sum()];
        for _ in 0..passes {
            let slots: Vec<Vec<u32>> =
                open.iter().map(|row| row.iter().map(|&(slot, _)| slot).collect()).collect();
            if slots.iter().all(Vec::is_empty) {
                break;
            }
            let slots: Vec<&[u32]> = slots.iter().map(Vec::as_slice).collect();
            let states = self.hidden(memory, &slots, &canvases, mode)?;
            let best = self.best_of(memory, &states, mode)?;
            let best = best.into_iter().map(Prediction::from);
            let best: Vec<Prediction> = best.collect();
            let (mut chosen, mut begin) = (Vec::new(), 0);
            for (canvas, row) in canvases.iter_mut().zip(&mut open) {
                let own = &best[begin..][..row.len()];
                let slots: Vec<usize> = row.iter().map(|&(slot, _)| slot as usize).collect();
                for i in argmax_per_block(&slots, own, passes) {
                    let token = imputed_token(own[i].token, &specials);
                    canvas[slots[i]] = token;
                    chosen.push((begin + i) as u32);
                    written.push(row[i].1);
                    tokens[row[i].1 as usize] = token;
                }
                begin += row.len();
                row.retain(|&(slot, _)| canvas[slot as usize] == specials.mask);
            }
            hidden.push(ops::select(&states, chosen)?);
        }
        // From the order of writing to the order of positions.
        let mut order = vec![0u32; written.len()];
        (0u32..).zip(written).for_each(|(at, place)| order[place as usize] = at);
        let hidden = ops::select(&Tensor::cat(&hidden, 0)?, order)?;
        Ok(Targets { hidden, tokens })
    }

    /// The best token at each of `places`, row by row.
    fn best(
        &self,
        memory: &TeacherMemory,
        places: &[&[u32]],
        canvases: &[Vec<u32>],
        mode: &Mode,
    ) -> Result<Vec<(u32, f32)>> {
        match memory {
            TeacherMemory::Exact(_) => {
                self.best_of(memory, &self.hidden(memory, places, canvases, mode)?, mode)
            }
            TeacherMemory::EightBit(network, keys) => {
                with_rows(canvases, places, keys, |rows| network.predict(rows))
            }
        }
    }

    /// The best token for each of these decoder states.
    fn best_of(&self, memory: &TeacherMemory, states: &Tensor, mode: &Mode) -> Result<Vec<(u32, f32)>> {
        match memory {
            TeacherMemory::Exact(_) => {
                let output = self.network.output(states, self.network.forbidden(), mode);
                Ok(ops::without_gradients(|| output.best_tokens())?)
            }
            TeacherMemory::EightBit(network, _) => network.best_of(&states.flatten_all()?.to_vec1()?),
        }
    }

    /// Last decoder states at `places`, `[places, d]`.
    fn hidden(
        &self,
        memory: &TeacherMemory,
        places: &[&[u32]],
        canvases: &[Vec<u32>],
        mode: &Mode,
    ) -> Result<Tensor> {
        let device = self.network.device();
        match memory {
            TeacherMemory::Exact(memory) => {
                let pad = self.network.specials().pad;
                let canvas = Padded::new(canvases.iter().map(Vec::as_slice), pad, device)?;
                let decoded = self.network.decode(&canvas, memory, mode)?;
                Ok(self.network.select(&decoded, flat(places.iter().copied(), &canvas)?)?)
            }
            TeacherMemory::EightBit(network, keys) => {
                let states = with_rows(canvases, places, keys, |rows| network.states(rows))?;
                let shape = (places.iter().map(|own| own.len()).sum::<usize>(), self.network.shape().d_model);
                Ok(Tensor::from_vec(states, shape, device)?)
            }
        }
    }
}

/// The output of the teacher's encoder for a batch.
pub struct EncodedSources {
    memory: TeacherMemory,
    /// For each sentence, the log-probabilities of 0, 1, … inner tokens; empty for an Imputer.
    pub length_log_probs: Vec<Vec<f32>>,
}

/// The memory that the decoder reads.
enum TeacherMemory {
    Exact(Memory),
    EightBit(Arc<QuantizedNetwork>, Vec<SentenceKeys>),
}

impl EightBit {
    /// The network of the current weights.
    fn network(&self, shape: &Shape) -> Result<Arc<QuantizedNetwork>> {
        let packed = || QuantizedNetwork::new(shape, &self.weights).map(Arc::new);
        if self.follows {
            return packed();
        }
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        match &*kept {
            Some(network) => Ok(network.clone()),
            None => Ok(kept.insert(packed()?).clone()),
        }
    }
}

/// Calls `f` with the canvases as rows, in which `places` are wanted.
fn with_rows<T>(
    canvases: &[Vec<u32>],
    places: &[&[u32]],
    keys: &[SentenceKeys],
    f: impl FnOnce(&[QuantizedCanvas]) -> Result<T>,
) -> Result<T> {
    let wanted: Vec<Vec<usize>> =
        places.iter().map(|own| own.iter().map(|&p| p as usize).collect()).collect();
    let rows: Vec<QuantizedCanvas> = canvases
        .iter()
        .zip(&wanted)
        .zip(keys)
        .map(|((ids, wanted), keys)| QuantizedCanvas { ids, wanted, keys })
        .collect();
    f(&rows)
}

/// Number of m masked positions that are masked again after pass j of n: r_j = ⌈(n − j)·m / n⌉, so r_n = 0.
fn masks_left(masked: usize, pass: usize, passes: usize) -> usize {
    (masked * passes.saturating_sub(pass)).div_ceil(passes.max(1))
}

/// Writes `best` (token, log-probability) to `positions`, then `mask` to the `left` positions with the lowest
/// log-probability; ties go to the lower position.
fn refresh(canvas: &mut [u32], positions: &[u32], best: &[(u32, f32)], left: usize, mask: u32) {
    for (&position, &(token, _)) in positions.iter().zip(best) {
        canvas[position as usize] = token;
    }
    let mut by_score: Vec<usize> = (0..positions.len().min(best.len())).collect();
    by_score.sort_by(|&a, &b| best[a].1.total_cmp(&best[b].1)); // stable: ties stay ascending
    for &i in by_score.iter().take(left) {
        canvas[positions[i] as usize] = mask;
    }
}

#[cfg(test)]
mod tests;
