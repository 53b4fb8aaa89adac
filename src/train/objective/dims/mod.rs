//! The loss of DiMS (Norouzi et al. 2023, arXiv 2206.02999): the distance between one pass of the student and n
//! passes of its teacher, at every masked position.

mod teacher;
mod text;

use std::borrow::Cow;
use std::sync::Arc;

use super::{Batch, Losses, Objective, Spelling, Step, TrainingPass, all_symbols, best_paths, with_length};
use crate::decode::{DecodeOptions, Steps, length_beam};
use crate::model::LanguageModel;
use crate::nn::gemm::Precision;
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::train::config::{Dims as Settings, Mask, SlotMask, Target};
use crate::train::data::corpus::Pair;
use crate::train::data::masking::{Masked, mask_all, mask_slots, mask_target, mask_translation, masks_only};
use crate::train::rng::Rng;
use crate::{Error, Result};
use teacher::EncodedSources;
pub use teacher::Teacher;

/// The losses of DiMS.
pub struct Dims {
    pub settings: Settings,
    pub teacher: Teacher,
    /// Takes part in the teacher's translation if the student learns its text ([`Target::Text`]).
    pub lm: Option<Arc<LanguageModel>>,
    pub specials: Specials,
    pub length_weight: f64,
    pub products: Precision,
    pub batch_tokens: usize,
}

impl Objective for Dims {
    /// `KL(teacher after n passes ‖ student after one) + w · mean ‖h_n − h_S‖₂ + v · CE(length)`
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        if self.settings.target == Target::Text {
            return self.text_losses(step);
        }
        let Step { student, mut masks, dropout, .. } = step;
        let pairs = self.with_targets(step.pairs)?;
        let pairs: Vec<&Pair> = pairs.iter().map(AsRef::as_ref).collect();
        // The same precision as that of the student, so that equal weights give equal states.
        let teacher_mode = Mode::training(0.0, 0, self.products);
        let source = self.teacher.encode(&pairs, &teacher_mode)?;
        let masked: Vec<_> = if student.shape().has_blanks() {
            self.mask_alignments(&pairs, &source, &mut masks, &teacher_mode)?
        } else {
            let lengths = source.length_log_probs.iter();
            pairs
                .iter()
                .zip(lengths)
                .map(|(pair, own)| self.draw_canvas(&pair.target, own, &mut masks))
                .collect()
        };
        let batch = Batch::new(&pairs, &masked, student.shape(), &self.specials, student.device())?;

        let passes = usize::from(self.settings.steps);
        let targets = self.teacher.targets(&source, &masked, passes, &teacher_mode)?;
        let mode = Mode::training(self.settings.dropout as f32, dropout, self.products);
        let pass = TrainingPass::of(student, &batch, &mode)?;
        let temperature = self.settings.temperature as f32;
        let logits = student.logits(&pass.hidden, &mode)?;
        let of_teacher = self.teacher.logits(&targets.hidden, &teacher_mode)?;
        let tokens = ops::divergence(&logits, &of_teacher, temperature, student.forbidden())?;
        let hidden = ops::distance(&pass.hidden, &targets.hidden)?;
        let both = (&tokens + (&hidden * self.settings.hidden_weight)?)?;
        Ok(Losses {
            total: with_length(&both, pass.length_loss.as_ref(), self.length_weight)?,
            tokens,
            hidden: Some(hidden),
            length: pass.length_loss,
            masked_tokens: batch.masked_tokens(),
            target_tokens: batch.target_tokens,
        })
    }
}

impl Dims {
    /// The pairs or, if training is unsupervised, their sources with the teacher's current translations. If all slots
    /// of an Imputer are masked, targets are not used, so they are not translated.
    fn with_targets<'a>(&self, pairs: &[&'a Pair]) -> Result<Vec<Cow<'a, Pair>>> {
        let unread = self.teacher.network().shape().has_blanks() && self.settings.mask == Mask::Full;
        if unread || !self.settings.unsupervised {
            return Ok(pairs.iter().map(|&pair| Cow::Borrowed(pair)).collect());
        }
        let sources: Vec<Vec<u32>> = pairs.iter().map(|pair| pair.source.clone()).collect();
        let texts =
            self.teacher.translate(&sources, &self.decoding(self.settings.translation_steps)?, None)?;
        let with_text =
            |(source, text): (_, Vec<u32>)| Cow::Owned(Pair { source, target: self.enclose(&text) });
        Ok(sources.into_iter().zip(texts).map(with_text).collect())
    }

    /// How the teacher translates in `steps` steps.
    ///
    /// # Errors
    /// Zero steps.
    fn decoding(&self, steps: u8) -> Result<DecodeOptions> {
        let steps = Steps::new(steps)
            .ok_or_else(|| Error::Config("the teacher of DiMS needs at least 1 step".into()))?;
        Ok(DecodeOptions { max_batch_tokens: self.batch_tokens, ..DecodeOptions::new(steps) })
    }

    /// The text between bos and eos.
    fn enclose(&self, text: &[u32]) -> Vec<u32> {
        let Specials { bos, eos, .. } = self.specials;
        [&[bos], text, &[eos]].concat()
    }

    /// Whether all positions of the next canvas are masked.
    fn masks_all(&self, masks: &mut Rng) -> bool {
        match self.settings.mask {
            Mask::Full => true,
            Mask::Random => false,
            Mask::Mixed => masks.uniform() < 0.5,
        }
    }

    /// Draws the masks of an Imputer's canvases. Revealed slots contain the teacher's alignment of the target.
    fn mask_alignments(
        &self,
        pairs: &[&Pair],
        source: &EncodedSources,
        masks: &mut Rng,
        teacher_mode: &Mode,
    ) -> Result<Vec<Masked>> {
        let spellings: Vec<Spelling> = pairs.iter().map(|pair| Spelling::of(pair, &self.specials)).collect();
        let blank: Vec<Masked> = spellings.iter().map(|s| s.masks(&self.specials)).collect();
        let masked_slots: Vec<Option<Vec<u32>>> = spellings
            .iter()
            .map(|s| (!self.masks_all(masks)).then(|| mask_slots(s.slots, SlotMask::Block, masks)))
            .collect();
        if masked_slots.iter().all(Option::is_none) {
            return Ok(blank);
        }
        let hidden = self.teacher.targets(source, &blank, 1, teacher_mode)?.hidden;
        let spelt: Vec<&Spelling> = spellings.iter().collect();
        let scores = self.teacher.log_probs_of(&hidden, &all_symbols(&spelt), teacher_mode)?;
        let paths = best_paths(&scores, &spelt)?;
        let canvases = spellings.iter().zip(&paths).zip(blank).zip(masked_slots);
        Ok(canvases
            .map(|(((spelling, path), blank), masked_slots)| match masked_slots {
                Some(masked_slots) => spelling.canvas(Some(path), masked_slots, &self.specials),
                None => blank,
            })
            .collect())
    }

    /// Draws the masked canvas of a target, which may have another length. `length_log_probs` are those of the teacher.
    fn draw_canvas(&self, target: &[u32], length_log_probs: &[f32], masks: &mut Rng) -> Masked {
        let (mask, all) = (self.specials.mask, self.masks_all(masks));
        let beam = if all { self.settings.length_beam } else { 0 };
        let lengths = if beam > 0 { length_beam(length_log_probs, beam) } else { Vec::new() };
        let drawn = (!lengths.is_empty()).then(|| lengths[masks.below(lengths.len())]);
        match (drawn, all, self.settings.unsupervised) {
            (Some(inner), ..) => masks_only(inner, &self.specials),
            (None, true, _) => mask_all(target, mask),
            (None, false, false) => mask_target(target, mask, masks),
            (None, false, true) => mask_translation(target, mask, masks),
        }
    }
}

#[cfg(test)]
mod tests;
