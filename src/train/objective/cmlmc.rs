//! The loss of a CMLMC (Huang et al. 2022). A network that rewrites tokens must see wrong tokens in training.
//!
//! A pass over a fully masked canvas predicts all tokens. Some of the revealed tokens of the masked canvas are
//! replaced by these predictions, and a second pass has to correct them. The encoder also reads sources with a few
//! masked tokens and has to predict those.

use candle_core::Tensor;

use super::{Batch, Cmlm, Losses, Objective, Step, flat, with_length};
use crate::Result;
use crate::model::{Memory, Network, Padded};
use crate::nn::{Mode, ops};
use crate::train::config::Cmlmc as Settings;
use crate::train::data::corpus::Pair;
use crate::train::data::masking::{Masked, mask_all, mask_source, mask_target, revealed};
use crate::train::rng::Rng;

pub struct Cmlmc {
    pub cmlm: Cmlm,
    pub settings: Settings,
}

impl Objective for Cmlmc {
    /// `CE(masked ∪ replaced) + length_weight · CE(length) + source_weight · CE(masked source words)`
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, mut masks, dropout } = step;
        let Cmlm { specials, label_smoothing, length_weight, dropout: rate, products } = self.cmlm;
        let mut rng = masks.fork("cmlmc", 0);
        let masked: Vec<Masked> =
            pairs.iter().map(|pair| mask_target(&pair.target, specials.mask, &mut masks)).collect();
        let sources = self.mask_sources(pairs, student, &mut rng);
        let masked_pairs: Vec<Pair> = pairs
            .iter()
            .zip(&sources)
            .map(|(pair, source)| Pair { source: source.canvas.clone(), target: pair.target.clone() })
            .collect();
        let input: Vec<&Pair> =
            if sources.is_empty() { pairs.to_vec() } else { masked_pairs.iter().collect() };
        let batch = Batch::new(&input, &masked, student.shape(), &specials, student.device())?;

        let mode = Mode::training(rate, dropout, products);
        let states = student.encode(&batch.source, &mode)?;
        let lengths = student.length_logits(&states, &batch.source.lengths, &mode)?;
        let length = lengths.map(|l| ops::cross_entropy(&l, &batch.classes, 0.0, 0)).transpose()?;
        let memory = student.memory(&states, &batch.source.lengths, &mode)?;
        let decoded = student.decode(&batch.canvas, &memory, &mode)?;
        let (mut hidden, mut gold) = (student.select(&decoded, batch.places.clone())?, batch.gold.to_vec());
        if let Some((replaced, correct)) = self.replaced(student, pairs, &masked, &memory, &mut rng, &mode)? {
            hidden = Tensor::cat(&[hidden, replaced], 0)?;
            gold.extend(correct);
        }
        let masked_tokens = gold.len();
        let forbidden = student.forbidden();
        let tokens =
            student.output(&hidden, forbidden, &mode).cross_entropy(&gold.into(), label_smoothing)?;
        let mut total = with_length(&tokens, length.as_ref(), length_weight)?;

        let words: Vec<u32> = sources.iter().flat_map(|source| source.gold.iter().copied()).collect();
        if !words.is_empty() {
            let places = flat(sources.iter().map(|source| source.positions.as_slice()), &batch.source)?;
            let chosen = student.select(&states, places)?;
            let source_loss =
                student.output(&chosen, forbidden, &mode).cross_entropy(&words.into(), label_smoothing)?;
            total = (total + (source_loss * self.settings.source_weight)?)?;
        }
        Ok(Losses { total, tokens, hidden: None, length, masked_tokens, target_tokens: batch.target_tokens })
    }
}

impl Cmlmc {
    /// Masks source tokens; empty if sources are not masked.
    fn mask_sources(&self, pairs: &[&Pair], student: &Network, rng: &mut Rng) -> Vec<Masked> {
        let share = self.settings.masked_source;
        if share == 0.0 {
            return Vec::new();
        }
        let (mask, first_word) = (self.cmlm.specials.mask, student.forbidden() as u32);
        pairs.iter().map(|pair| mask_source(&pair.source, share, mask, first_word, rng)).collect()
    }

    /// Last decoder states at the positions where predictions replace revealed tokens, `[positions, d]`, and the
    /// correct tokens; `None` if no token is replaced.
    fn replaced(
        &self,
        student: &Network,
        pairs: &[&Pair],
        masked: &[Masked],
        memory: &Memory,
        rng: &mut Rng,
        mode: &Mode,
    ) -> Result<Option<(Tensor, Vec<u32>)>> {
        let specials = self.cmlm.specials;
        let share = self.settings.corrected;
        let chosen: Vec<Vec<u32>> = masked.iter().map(|m| revealed(m, share, rng)).collect();
        if chosen.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let padded = |rows: &[Masked]| {
            Padded::new(rows.iter().map(|m| m.canvas.as_slice()), specials.pad, student.device())
        };
        // No gradient flows through the predictions.
        let detached_memory = memory.detached();
        let blank: Vec<Masked> = pairs.iter().map(|pair| mask_all(&pair.target, specials.mask)).collect();
        let canvas = padded(&blank)?;
        let places = flat(chosen.iter().map(Vec::as_slice), &canvas)?;
        let predictions = ops::without_gradients(|| {
            let states = student.decode(&canvas, &detached_memory, mode)?.detach();
            student.best_tokens(&states, places.clone(), mode)
        });
        let mut predictions = predictions?.into_iter();

        let mut corrected = masked.to_vec();
        for (row, positions) in corrected.iter_mut().zip(&chosen) {
            for (&position, (token, _)) in positions.iter().zip(&mut predictions) {
                row.canvas[position as usize] = token;
            }
        }
        let decoded = student.decode(&padded(&corrected)?, memory, mode)?;
        let correct = pairs.iter().zip(&chosen);
        let correct = correct.flat_map(|(pair, own)| own.iter().map(|&p| pair.target[p as usize])).collect();
        Ok(Some((student.select(&decoded, places)?, correct)))
    }
}

#[cfg(test)]
mod tests;
