//! The target of DiMS: the teacher's output after n passes over the same canvas.
//!
//! Mask-predict over a fixed set M of places: each pass rewrites all of M, then masks the least certain again, fewer each time and
//! none at the end. An Imputer's pass writes one of every n adjacent slots, and the target of a slot is the output of the pass
//! that wrote it.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use crate::Result;
use crate::decode::{DecodeOptions, Hypothesis, Prediction, argmax_per_block, imputed_token, translate};
use crate::model::Tensors;
use crate::model::quantized::{Canvas, QuantizedNetwork, SentenceKeys};
use crate::model::{Memory, Network, Padded, Shape};
use crate::nn::{Mode, ops};
use crate::train::data::corpus::Pair;
use crate::train::data::masking::Masked;
use crate::train::objective::flat;

/// The model to imitate. No gradient reaches it. Where its weights are those of a moving average, it follows them.
pub struct Teacher {
    network: Network,
    eight_bit: Option<EightBit>,
}

/// The same in eight bits: several times faster, and as the server will compute.
struct EightBit {
    /// Those of the network, on the same memory.
    weights: Tensors,
    /// Where the weights stay; where the teacher `follows`, they may have changed by the next call.
    kept: Mutex<Option<Arc<QuantizedNetwork>>>,
    follows: bool,
}

/// The last of n teacher passes, at the masked places.
pub struct Targets {
    /// `[places, vocab]`
    pub logits: Tensor,
    /// Last decoder states: `[places, d]`
    pub hidden: Tensor,
}

impl Teacher {
    /// Products in the precision that `mode` says at each call: the student's.
    pub fn exact(network: Network) -> Self {
        Self { network, eight_bit: None }
    }

    /// Products in eight bits of `weights`, which are those of `network`, on the same memory, and change
    /// between updates if it `follows` the student. Only the last scores over the vocabulary are the network's.
    pub fn eight_bit(network: Network, weights: Tensors, follows: bool) -> Self {
        Self { network, eight_bit: Some(EightBit { weights, kept: Mutex::default(), follows }) }
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The translations that it has for `sources`, by the same products as its passes.
    pub fn translate(&self, sources: &[Vec<u32>], options: &DecodeOptions) -> Result<Vec<Vec<Hypothesis>>> {
        match &self.eight_bit {
            Some(eight_bit) => translate(&*eight_bit.network(self.network.shape())?, sources, options),
            None => translate(&self.network, sources, options),
        }
    }

    /// The encoder's pass.
    pub fn read(&self, pairs: &[&Pair], mode: &Mode) -> Result<Source> {
        let network = &self.network;
        let sources: Vec<&[u32]> = pairs.iter().map(|pair| pair.source.as_slice()).collect();
        let (memory, classes) = match &self.eight_bit {
            Some(eight_bit) => {
                let eight_bit = eight_bit.network(network.shape())?;
                let (keys, classes) = eight_bit.encode_sentences(&sources)?.into_iter().unzip();
                (Read::EightBit(eight_bit, keys), classes)
            }
            None => {
                let padded = Padded::new(sources.iter().copied(), network.specials().pad, network.device())?;
                let states = network.encode(&padded, mode)?;
                let classes = network.length_log_probs(&states, &padded.lengths, mode)?;
                (Read::Exact(network.memory(&states, &padded.lengths, mode)?), classes)
            }
        };
        let shape = network.shape();
        let scores = |(classes, source): (&Vec<f32>, &&[u32])| {
            shape.outline(classes, source.len()).into_length_log_probs()
        };
        Ok(Source { memory, length_log_probs: classes.iter().zip(&sources).map(scores).collect() })
    }

    /// What is to be learnt of the rows `masked`, whose sources `source` is of; `passes` is n and counts as at
    /// least 1.
    pub fn targets(&self, source: &Source, masked: &[Masked], passes: usize, mode: &Mode) -> Result<Targets> {
        if self.network.shape().has_blanks() {
            self.imputed(&source.memory, masked, passes.max(1), mode)
        } else {
            self.refreshed(&source.memory, masked, passes, mode)
        }
    }

    fn refreshed(&self, read: &Read, masked: &[Masked], passes: usize, mode: &Mode) -> Result<Targets> {
        let mut canvases: Vec<Vec<u32>> = masked.iter().map(|m| m.canvas.clone()).collect();
        let places: Vec<&[u32]> = masked.iter().map(|m| m.positions.as_slice()).collect();
        for pass in 1..passes {
            let best = self.best(read, &places, &canvases, mode)?;
            let mut rest = best.as_slice();
            for (canvas, m) in canvases.iter_mut().zip(masked) {
                let (own, after) = rest.split_at(m.positions.len());
                let left = masks_left(m.positions.len(), pass, passes);
                refresh(canvas, &m.positions, own, left, self.network.specials().mask);
                rest = after;
            }
        }
        let hidden = self.hidden(read, &places, &canvases, mode)?;
        Ok(Targets { logits: self.network.logits(&hidden, mode)?, hidden })
    }

    fn imputed(&self, read: &Read, masked: &[Masked], passes: usize, mode: &Mode) -> Result<Targets> {
        let specials = self.network.specials();
        let mut canvases: Vec<Vec<u32>> = masked.iter().map(|m| m.canvas.clone()).collect();
        // Of each row the slots that are still masked, each with its place among all of M.
        let mut place = 0u32..;
        let mut open: Vec<Vec<(u32, u32)>> =
            masked.iter().map(|m| m.positions.iter().copied().zip(&mut place).collect()).collect();
        let (mut hidden, mut written) = (Vec::new(), Vec::new());
        for _ in 0..passes {
            let slots: Vec<Vec<u32>> =
                open.iter().map(|row| row.iter().map(|&(slot, _)| slot).collect()).collect();
            if slots.iter().all(Vec::is_empty) {
                break;
            }
            let slots: Vec<&[u32]> = slots.iter().map(Vec::as_slice).collect();
            let states = self.hidden(read, &slots, &canvases, mode)?;
            let best = self.best_of(read, &states, mode)?;
            let best = best.into_iter().map(Prediction::from);
            let best: Vec<Prediction> = best.collect();
            let (mut chosen, mut begin) = (Vec::new(), 0);
            for (canvas, row) in canvases.iter_mut().zip(&mut open) {
                let own = &best[begin..][..row.len()];
                let slots: Vec<usize> = row.iter().map(|&(slot, _)| slot as usize).collect();
                for i in argmax_per_block(&slots, own, passes) {
                    canvas[slots[i]] = imputed_token(own[i].token, &specials);
                    chosen.push((begin + i) as u32);
                    written.push(row[i].1);
                }
                begin += row.len();
                row.retain(|&(slot, _)| canvas[slot as usize] == specials.mask);
            }
            hidden.push(ops::select(&states, chosen)?);
        }
        // From the order of writing to that of the places.
        let mut order = vec![0u32; written.len()];
        (0u32..).zip(written).for_each(|(at, place)| order[place as usize] = at);
        let hidden = ops::select(&Tensor::cat(&hidden, 0)?, order)?;
        Ok(Targets { logits: self.network.logits(&hidden, mode)?, hidden })
    }

    /// The best token of each of some places, row after row.
    fn best(
        &self,
        read: &Read,
        places: &[&[u32]],
        canvases: &[Vec<u32>],
        mode: &Mode,
    ) -> Result<Vec<(u32, f32)>> {
        match read {
            Read::Exact(_) => self.best_of(read, &self.hidden(read, places, canvases, mode)?, mode),
            Read::EightBit(network, keys) => with_rows(canvases, places, keys, |rows| network.predict(rows)),
        }
    }

    /// The best token of each of some last decoder states.
    fn best_of(&self, read: &Read, states: &Tensor, mode: &Mode) -> Result<Vec<(u32, f32)>> {
        match read {
            Read::Exact(_) => {
                Ok(ops::best_tokens(&self.network.logits(states, mode)?, self.network.forbidden())?)
            }
            Read::EightBit(network, _) => network.best_of(&states.flatten_all()?.to_vec1()?),
        }
    }

    /// Last decoder states at some places: `[places, d]`.
    fn hidden(&self, read: &Read, places: &[&[u32]], canvases: &[Vec<u32>], mode: &Mode) -> Result<Tensor> {
        let device = self.network.device();
        match read {
            Read::Exact(memory) => {
                let pad = self.network.specials().pad;
                let canvas = Padded::new(canvases.iter().map(Vec::as_slice), pad, device)?;
                let decoded = self.network.decode(&canvas, memory, mode)?;
                Ok(self.network.select(&decoded, flat(places.iter().copied(), &canvas)?)?)
            }
            Read::EightBit(network, keys) => {
                let states = with_rows(canvases, places, keys, |rows| network.states(rows))?;
                let shape = (places.iter().map(|own| own.len()).sum::<usize>(), self.network.shape().d_model);
                Ok(Tensor::from_vec(states, shape, device)?)
            }
        }
    }
}

/// What the teacher made of the sources of a batch.
pub struct Source {
    memory: Read,
    /// Of each sentence: the log-probability of every number of inner tokens, from 0 up; of an Imputer none.
    pub length_log_probs: Vec<Vec<f32>>,
}

/// What its decoder reads of them.
enum Read {
    Exact(Memory),
    EightBit(Arc<QuantizedNetwork>, Vec<SentenceKeys>),
}

impl EightBit {
    /// Of the weights as they are now.
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

/// `f` of the canvases as rows of which some places are wanted.
fn with_rows<T>(
    canvases: &[Vec<u32>],
    places: &[&[u32]],
    keys: &[SentenceKeys],
    f: impl FnOnce(&[Canvas]) -> Result<T>,
) -> Result<T> {
    let wanted: Vec<Vec<usize>> =
        places.iter().map(|own| own.iter().map(|&p| p as usize).collect()).collect();
    let rows: Vec<Canvas> = canvases
        .iter()
        .zip(&wanted)
        .zip(keys)
        .map(|((ids, wanted), keys)| Canvas { ids, wanted, keys, narrow: false })
        .collect();
    f(&rows)
}

/// How many of m masked places are masked again after pass j of n: r_j = ⌈(n − j)·m / n⌉, so r_n = 0.
fn masks_left(masked: usize, pass: usize, passes: usize) -> usize {
    (masked * passes.saturating_sub(pass)).div_ceil(passes.max(1))
}

/// Writes `best` (token, log-probability) to `positions`, then `mask` to the `left` places of lowest
/// log-probability, ties to the lower place.
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
