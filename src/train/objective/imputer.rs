//! The loss of an Imputer (Saharia et al. 2020, arXiv 2004.07437): the negative log-probability of all fillings of
//! the masked slots that collapse to the target, given the revealed slots.
//!
//! The revealed slots contain the best alignment that the network finds on a fully masked canvas; no gradient flows
//! through it. If all slots are masked, no alignment is needed and the loss is that of CTC.

use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Losses, Objective, Step, flat};
use crate::decode::ctc::{Lattice, Slot, Sum, slots_needed, symbol_at, symbols};
use crate::model::{Memory, Network, Padded};
use crate::nn::gemm::Precision;
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::train::config::SlotMask;
use crate::train::data::corpus::Pair;
use crate::train::data::masking::{Masked, mask_slots, slots_with_masks};
use crate::{Error, Result};

pub struct Imputer {
    pub specials: Specials,
    pub mask: SlotMask,
    pub dropout: f32,
    pub products: Precision,
}

impl Objective for Imputer {
    /// `- Σ ln P(target | source, revealed slots) / masked slots`
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, mut masks, dropout } = step;
        let spellings: Vec<Spelling> = pairs.iter().map(|pair| Spelling::of(pair, &self.specials)).collect();
        let masked_slots: Vec<Vec<u32>> =
            spellings.iter().map(|s| mask_slots(s.slots, self.mask, &mut masks)).collect();
        let source =
            Padded::new(pairs.iter().map(|p| p.source.as_slice()), self.specials.pad, student.device())?;
        let mode = Mode::training(self.dropout, dropout, self.products);
        let memory = student.memory(&student.encode(&source, &mode)?, &source.lengths, &mode)?;

        let partly: Vec<bool> = spellings
            .iter()
            .zip(&masked_slots)
            .map(|(s, masked_slots)| masked_slots.len() < s.slots)
            .collect();
        let paths = self.paths(student, &memory, &spellings, &partly, &mode)?;
        let masked: Vec<Masked> = spellings
            .iter()
            .zip(&paths)
            .zip(masked_slots)
            .map(|((spelling, path), masked_slots)| {
                spelling.canvas(path.as_deref(), masked_slots, &self.specials)
            })
            .collect();
        let canvas =
            Padded::new(masked.iter().map(|m| m.canvas.as_slice()), self.specials.pad, student.device())?;
        let places = flat(masked.iter().map(|m| m.positions.as_slice()), &canvas)?;
        let masked_tokens = places.len();
        let decoded = student.decode(&canvas, &memory, &mode)?;
        let chosen = student.select(&decoded, places)?;
        let output = student.output(&chosen, student.forbidden(), &mode);
        let tokens = ctc_loss(&output, &spellings, &paths, &masked)?;
        Ok(Losses {
            total: tokens.clone(),
            tokens,
            hidden: None,
            length: None,
            masked_tokens,
            target_tokens: pairs.iter().map(|pair| pair.target.len()).sum(),
        })
    }
}

impl Imputer {
    /// The best alignment of each `wanted` pair, from a pass over masks alone; `None` for the others.
    fn paths(
        &self,
        student: &Network,
        memory: &Memory,
        spellings: &[Spelling],
        wanted: &[bool],
        mode: &Mode,
    ) -> Result<Vec<Option<Vec<usize>>>> {
        let chosen: Vec<&Spelling> =
            spellings.iter().zip(wanted).filter(|(_, w)| **w).map(|(s, _)| s).collect();
        if chosen.is_empty() {
            return Ok(vec![None; spellings.len()]);
        }
        let blank: Vec<Masked> = spellings.iter().map(|s| s.masks(&self.specials)).collect();
        let canvas =
            Padded::new(blank.iter().map(|m| m.canvas.as_slice()), self.specials.pad, student.device())?;
        let places = blank.iter().zip(wanted).map(|(m, w)| if *w { m.positions.as_slice() } else { &[] });
        let places = flat(places, &canvas)?;
        let memory = memory.detached();
        let scores = ops::without_gradients(|| {
            let states = student.decode(&canvas, &memory, mode)?.detach();
            let states = student.select(&states, places)?;
            student.output(&states, student.forbidden(), mode).log_probs_of(&all_symbols(&chosen))
        })?;
        let mut found = best_paths(&scores, &chosen)?.into_iter();
        Ok(wanted.iter().map(|w| if *w { found.next() } else { None }).collect())
    }
}

/// A target and its number of slots.
pub struct Spelling {
    /// `y1..yL`, without bos and eos.
    target: Vec<u32>,
    symbols: Vec<u32>,
    pub slots: usize,
}

impl Spelling {
    pub fn of(pair: &Pair, specials: &Specials) -> Self {
        let target = pair.inner_target();
        Self { target: target.to_vec(), symbols: symbols(target, specials.blank()), slots: pair.slots() }
    }

    /// The fully masked canvas, with which decoding starts.
    pub fn masks(&self, specials: &Specials) -> Masked {
        self.canvas(None, (0..self.slots as u32).collect(), specials)
    }

    /// The canvas of the alignment `path` with masks at `masked_slots`. Without a path, these must be all slots.
    pub fn canvas(&self, path: Option<&[usize]>, masked_slots: Vec<u32>, specials: &Specials) -> Masked {
        let slots = match path {
            Some(path) => path.iter().map(|&s| symbol_at(s, &self.target, specials.blank())).collect(),
            None => vec![specials.mask; self.slots],
        };
        slots_with_masks(&slots, masked_slots, specials.mask)
    }

    /// The alignments of the target in which masked slots are free and revealed slots are as in `path`. `scores` are
    /// those of the symbols in each masked slot.
    fn lattice<'a>(&self, path: Option<&[usize]>, masked: &Masked, scores: &'a [f32]) -> Lattice<'a> {
        let mut free = scores.chunks(self.symbols.len());
        let mut places = masked.positions.iter().peekable();
        let slots = (0..self.slots).map(|slot| match (path, places.next_if(|&&p| p as usize == slot)) {
            (Some(path), None) => Slot::Pinned(path[slot]),
            _ => Slot::Free(free.next().unwrap_or_default()),
        });
        Lattice::new(&self.target, &self.symbols, slots.collect())
    }

    fn too_few_slots(&self) -> Error {
        let (needed, slots) = (slots_needed(&self.target), self.slots);
        Error::Model(format!("a target that needs {needed} slots cannot be spelt in {slots}"))
    }

    /// # Errors
    /// The slots are too few for the target.
    fn require_slots(&self) -> Result<()> {
        if slots_needed(&self.target) > self.slots { Err(self.too_few_slots()) } else { Ok(()) }
    }
}

/// For each slot of each target, the classes whose scores its alignment depends on.
pub fn all_symbols(spellings: &[&Spelling]) -> ops::Classes {
    ops::Classes::new(spellings.iter().flat_map(|s| std::iter::repeat_n(&s.symbols, s.slots)))
}

/// The best alignment of each target, as states (see [`crate::decode::ctc`]). `scores` are the log-probabilities of
/// [`all_symbols`].
///
/// # Errors
/// The slots are too few for a target.
pub fn best_paths(scores: &[f32], spellings: &[&Spelling]) -> Result<Vec<Vec<usize>>> {
    let own = split_by_sizes(scores, spellings.iter().map(|s| s.slots * s.symbols.len()));
    let path = |(spelling, own): (&&Spelling, &[f32])| {
        let slots = own.chunks(spelling.symbols.len()).map(Slot::Free).collect();
        Lattice::new(&spelling.target, &spelling.symbols, slots)
            .best_path()
            .ok_or_else(|| spelling.too_few_slots())
    };
    spellings.par_iter().zip(own).map(path).collect()
}

/// For each masked slot of each target, the classes whose scores its alignment depends on.
pub(super) fn masked_symbols(spellings: &[Spelling], masked: &[Masked]) -> ops::Classes {
    let rows = spellings.iter().zip(masked);
    ops::Classes::new(rows.flat_map(|(s, m)| std::iter::repeat_n(&s.symbols, m.positions.len())))
}

/// The best alignment of each target, given the states of its revealed slots. `scores` are the log-probabilities of
/// [`masked_symbols`].
///
/// # Errors
/// The slots are too few for a target.
pub(super) fn best_paths_around(
    scores: &[f32],
    spellings: &[Spelling],
    paths: &[Option<Vec<usize>>],
    masked: &[Masked],
) -> Result<Vec<Vec<usize>>> {
    let sizes = spellings.iter().zip(masked).map(|(s, m)| s.symbols.len() * m.positions.len());
    let own = split_by_sizes(scores, sizes);
    let sentences = spellings.par_iter().zip(paths).zip(masked).zip(own);
    sentences
        .map(|(((spelling, path), m), own)| {
            spelling.lattice(path.as_deref(), m, own).best_path().ok_or_else(|| spelling.too_few_slots())
        })
        .collect()
}

/// The CTC loss, `- Σ ln P / slots` over the masked slots of all sentences, with gradients for the input of `output`.
///
/// The gradient is `softmax − posterior` in each slot: that of a cross entropy whose targets are the posteriors.
///
/// # Errors
/// The slots are too few for a target. NaN scores give a NaN loss and NaN gradients.
pub(super) fn ctc_loss(
    output: &ops::Output,
    spellings: &[Spelling],
    paths: &[Option<Vec<usize>>],
    masked: &[Masked],
) -> Result<Tensor> {
    spellings.iter().try_for_each(Spelling::require_slots)?;
    let classes = Arc::new(masked_symbols(spellings, masked));
    output.loss_of(&classes, |scores| {
        let sums = sums(scores, spellings, paths, masked);
        let slots = classes.rows() as f64;
        let posteriors = sums.iter().flat_map(|sum| &sum.posteriors);
        Ok(ops::WeightedLoss {
            value: sums.iter().map(|sum| -sum.log_prob).sum::<f64>() / slots,
            weights: posteriors.map(|posterior| posterior / slots as f32).collect(),
        })
    })
}

/// The sum over all alignments of each target. `scores` are the log-probabilities of its symbols in its masked slots.
fn sums(scores: &[f32], spellings: &[Spelling], paths: &[Option<Vec<usize>>], masked: &[Masked]) -> Vec<Sum> {
    let sizes = spellings.iter().zip(masked).map(|(s, m)| s.symbols.len() * m.positions.len());
    let own = split_by_sizes(scores, sizes);
    let sum = |spelling: &Spelling, path: &Option<Vec<usize>>, m: &Masked, own: &[f32]| {
        let sum = spelling.lattice(path.as_deref(), m, own).sum();
        let undefined = || Sum { log_prob: f64::NAN, posteriors: vec![f32::NAN; own.len()] };
        if sum.log_prob.is_finite() { sum } else { undefined() }
    };
    let sentences = spellings.par_iter().zip(paths).zip(masked).zip(own);
    sentences.map(|(((spelling, path), m), own)| sum(spelling, path, m, own)).collect()
}

/// Splits `values` into pieces of the given sizes.
fn split_by_sizes(values: &[f32], sizes: impl Iterator<Item = usize>) -> Vec<&[f32]> {
    let mut rest = values;
    let piece = |size| {
        let (own, after) = rest.split_at(size);
        rest = after;
        own
    };
    sizes.map(piece).collect()
}

#[cfg(test)]
mod tests;
