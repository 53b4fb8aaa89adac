//! The loss of an autoregressive network: cross entropy of the next token at each position.

use super::{Batch, Losses, Objective, Step, TrainingPass};
use crate::Result;
use crate::nn::Mode;
use crate::nn::gemm::Precision;
use crate::text::Specials;
use crate::train::data::corpus::Pair;
use crate::train::data::masking::Masked;

/// Cross entropy of each next token, including eos, and of the length.
pub struct Autoregressive {
    pub specials: Specials,
    pub label_smoothing: f32,
    pub length_weight: f64,
    pub dropout: f32,
    pub products: Precision,
}

impl Objective for Autoregressive {
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, dropout, .. } = step;
        let shifted: Vec<Masked> = pairs.iter().map(|pair| next_tokens(pair)).collect();
        let batch = Batch::new(pairs, &shifted, student.shape(), &self.specials, student.device())?;
        let mode = Mode::training(self.dropout, dropout, self.products);
        let pass = TrainingPass::causal(student, &batch, &mode)?;
        // eos can be predicted here; the special tokens below it cannot.
        let forbidden = self.specials.eos as usize;
        let output = student.output(&pass.hidden, forbidden, &mode);
        let tokens = output.cross_entropy(&batch.gold, self.label_smoothing)?;
        Losses::of(tokens, pass.length_loss, &batch, self.length_weight)
    }
}

/// The input `bos x1..xL`, and for each position the token that follows: `x1..xL eos`.
fn next_tokens(pair: &Pair) -> Masked {
    let target = &pair.target;
    let canvas = target[..target.len().saturating_sub(1)].to_vec();
    Masked {
        positions: (0..canvas.len() as u32).collect(),
        gold: target.iter().skip(1).copied().collect(),
        canvas,
    }
}

#[cfg(test)]
mod tests;
