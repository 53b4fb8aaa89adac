//! The loss of a CMLM (Ghazvininejad et al. 2019): cross entropy of the masked tokens and of the length.

use super::{Batch, Losses, Objective, Step, TrainingPass};
use crate::Result;
use crate::nn::Mode;
use crate::nn::gemm::Precision;
use crate::text::Specials;
use crate::train::data::masking::mask_target;

pub struct Cmlm {
    pub specials: Specials,
    pub label_smoothing: f32,
    pub length_weight: f64,
    pub dropout: f32,
    pub products: Precision,
}

impl Objective for Cmlm {
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, mut masks, dropout } = step;
        let masked: Vec<_> =
            pairs.iter().map(|pair| mask_target(&pair.target, self.specials.mask, &mut masks)).collect();
        let batch = Batch::new(pairs, &masked, student.shape(), &self.specials, student.device())?;
        let mode = Mode::training(self.dropout, dropout, self.products);
        let pass = TrainingPass::of(student, &batch, &mode)?;
        let output = student.output(&pass.hidden, student.forbidden(), &mode);
        let tokens = output.cross_entropy(&batch.gold, self.label_smoothing)?;
        Losses::of(tokens, pass.length_loss, &batch, self.length_weight)
    }
}
