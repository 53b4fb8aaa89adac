//! DiMS of an Imputer with a free alignment (`dims.target = "text"`). The student learns the teacher's final text by
//! CTC. The teacher may find that text with a language model (`dims.lm`). The student does not learn which slot holds
//! which token, since one pass cannot predict that. In slots where the best alignments of both agree, it can also learn
//! the teacher's distribution and hidden states (`dims.agree`).

use std::borrow::Cow;

use candle_core::Tensor;

use super::Dims;
use super::teacher::Targets;
use crate::Result;
use crate::decode::ctc_collapse;
use crate::nn::{Mode, ops};
use crate::train::config::{Mask, SlotMask};
use crate::train::data::corpus::Pair;
use crate::train::data::masking::{Masked, mask_slots};
use crate::train::objective::{
    Batch, Losses, Spelling, Step, TrainingPass, all_symbols, best_paths, best_paths_around, ctc_loss,
    masked_symbols,
};

impl Dims {
    /// `CTC(text of the teacher after n passes) + a · (KL(teacher ‖ student) + w · ‖h_n − h_S‖₂ in agreeing slots)`, per
    /// masked slot.
    pub(super) fn text_losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, mut masks, dropout } = step;
        let (specials, forbidden) = (&self.specials, student.forbidden());
        let teacher_mode = Mode::training(0.0, 0, self.products);
        let aligns = self.settings.mask != Mask::Full || self.settings.agree > 0.0;
        let (texts, targets) = match &self.lm {
            Some(lm) => {
                let sources: Vec<Vec<u32>> = pairs.iter().map(|pair| pair.source.clone()).collect();
                let texts =
                    self.teacher.translate(&sources, &self.decoding(self.settings.steps)?, Some(lm))?;
                let targets = aligns.then(|| self.passes_from_masks(pairs, &teacher_mode)).transpose()?;
                (texts, targets)
            }
            None => {
                let targets = self.passes_from_masks(pairs, &teacher_mode)?;
                (self.texts_of_slots(pairs, &targets.tokens), Some(targets))
            }
        };
        let teacher_pairs = self.with_texts(pairs, texts);
        let teacher_pairs: Vec<&Pair> = teacher_pairs.iter().map(AsRef::as_ref).collect();
        let spellings: Vec<Spelling> =
            teacher_pairs.iter().map(|pair| Spelling::of(pair, specials)).collect();
        let masked_slots: Vec<Vec<u32>> = spellings
            .iter()
            .map(|s| match self.masks_all(&mut masks) {
                true => (0..s.slots as u32).collect(),
                false => mask_slots(s.slots, SlotMask::Block, &mut masks),
            })
            .collect();
        let all_masked = masked_slots.iter().zip(&spellings).all(|(masked, s)| masked.len() == s.slots);
        let shown: Vec<Option<Vec<usize>>> = match &targets {
            Some(targets) if !all_masked || self.settings.agree > 0.0 => {
                let spelt: Vec<&Spelling> = spellings.iter().collect();
                let scores =
                    self.teacher.log_probs_of(&targets.hidden, &all_symbols(&spelt), &teacher_mode)?;
                best_paths(&scores, &spelt)?.into_iter().map(Some).collect()
            }
            // A fully masked canvas shows no alignment.
            _ => vec![None; spellings.len()],
        };
        let masked: Vec<Masked> = spellings
            .iter()
            .zip(&shown)
            .zip(masked_slots)
            .map(|((spelling, path), masked_slots)| spelling.canvas(path.as_deref(), masked_slots, specials))
            .collect();

        let batch = Batch::new(&teacher_pairs, &masked, student.shape(), specials, student.device())?;
        let mode = Mode::training(self.settings.dropout as f32, dropout, self.products);
        let pass = TrainingPass::of(student, &batch, &mode)?;
        let output = student.output(&pass.hidden, forbidden, &mode);
        let tokens = ctc_loss(&output, &spellings, &shown, &masked)?;
        let mut losses = Losses {
            total: tokens.clone(),
            tokens,
            hidden: None,
            length: None,
            masked_tokens: batch.masked_tokens(),
            target_tokens: batch.target_tokens,
        };
        if let Some(targets) = targets.filter(|_| self.settings.agree > 0.0) {
            let scores = output.log_probs_of(&masked_symbols(&spellings, &masked))?;
            let own = best_paths_around(&scores, &spellings, &shown, &masked)?;
            let (places, slots) = agreeing(&own, &shown, &masked);
            if places.is_empty() {
                losses.hidden = Some(losses.tokens.zeros_like()?.detach());
                return Ok(losses);
            }
            let own = ops::select(&pass.hidden, places)?;
            let own = [&student.logits(&own, &mode)?, &own];
            let teacher = ops::select(&targets.hidden, slots)?;
            let teacher = [&self.teacher.logits(&teacher, &teacher_mode)?, &teacher];
            self.add_agreement(&mut losses, own, teacher)?;
        }
        Ok(losses)
    }

    /// The teacher's passes over fully masked canvases. It always starts with these, even if the student does not.
    fn passes_from_masks(&self, pairs: &[&Pair], mode: &Mode) -> Result<Targets> {
        let source = self.teacher.encode(pairs, mode)?;
        let canvas = |pair: &&Pair| Spelling::of(pair, &self.specials).masks(&self.specials);
        let canvases: Vec<Masked> = pairs.iter().map(canvas).collect();
        self.teacher.targets(&source, &canvases, usize::from(self.settings.steps), mode)
    }

    /// What the teacher's tokens of all slots collapse to, for each pair.
    fn texts_of_slots(&self, pairs: &[&Pair], tokens: &[u32]) -> Vec<Vec<u32>> {
        let mut rest = tokens;
        let mut text = |pair: &&Pair| {
            let (own, others) = rest.split_at(pair.slots().min(rest.len()));
            rest = others;
            ctc_collapse(own, &vec![0.0; own.len()], &self.specials).0
        };
        pairs.iter().map(&mut text).collect()
    }

    /// The pairs with the teacher's texts. If a text is empty, the pair keeps its own target, because an empty text
    /// would teach blanks.
    fn with_texts<'a>(&self, pairs: &[&'a Pair], texts: Vec<Vec<u32>>) -> Vec<Cow<'a, Pair>> {
        let with_text = |(pair, text): (&&'a Pair, Vec<u32>)| match text.is_empty() {
            true => Cow::Borrowed(*pair),
            false => Cow::Owned(Pair { source: pair.source.clone(), target: self.enclose(&text) }),
        };
        pairs.iter().zip(texts).map(with_text).collect()
    }

    /// Adds the losses of the agreeing slots. The arrays are the logits and the hidden states there, row by row.
    fn add_agreement(&self, losses: &mut Losses, own: [&Tensor; 2], teacher: [&Tensor; 2]) -> Result<()> {
        let agreeing = own[0].dim(0)?;
        // Turns means over the agreeing slots into sums over them divided by the number of masked slots.
        let share = agreeing as f64 / losses.masked_tokens as f64;
        let (temperature, forbidden) = (self.settings.temperature as f32, self.teacher.network().forbidden());
        let divergence = (ops::divergence(own[0], teacher[0], temperature, forbidden)? * share)?;
        let distance = (ops::distance(own[1], teacher[1])? * share)?;
        let both = (divergence + (&distance * self.settings.hidden_weight)?)?;
        losses.total = (&losses.total + (both * self.settings.agree)?)?;
        losses.hidden = Some(distance);
        Ok(())
    }
}

/// The masked slots in which the alignments of student and teacher are in the same state: as indices among all masked
/// slots of the batch, and among all its slots.
fn agreeing(
    student: &[Vec<usize>],
    teacher: &[Option<Vec<usize>>],
    masked: &[Masked],
) -> (Vec<u32>, Vec<u32>) {
    let (mut places, mut slots) = (Vec::new(), Vec::new());
    let (mut place, mut first) = (0, 0);
    for ((own, other), m) in student.iter().zip(teacher).zip(masked) {
        for &position in &m.positions {
            let slot = position as usize;
            if other.as_ref().is_some_and(|other| other.get(slot) == own.get(slot)) {
                places.push(place);
                slots.push(first + position);
            }
            place += 1;
        }
        first += own.len() as u32;
    }
    (places, slots)
}

#[cfg(test)]
mod tests;
