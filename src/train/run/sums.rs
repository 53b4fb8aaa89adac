//! What the log says of some updates: sums, and means over their masked tokens.

use crate::Result;
use crate::train::objective::Losses;

/// Sums over the masked tokens of one update.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Update {
    pub(super) masked_tokens: usize,
    pub(super) target_tokens: usize,
    pub(super) loss: f64,
    pub(super) hidden_loss: Option<f64>,
    pub(super) length_loss: f64,
    pub(super) norm: f64,
    pub(super) applied: bool,
}

impl Update {
    pub(super) fn add(&mut self, losses: &Losses) -> Result<()> {
        let sum = |mean: &candle_core::Tensor| -> Result<f64> {
            Ok(f64::from(mean.to_scalar::<f32>()?) * losses.masked_tokens as f64)
        };
        self.loss += sum(&losses.tokens)?;
        self.length_loss += sum(&losses.length)?;
        if let Some(hidden) = &losses.hidden {
            *self.hidden_loss.get_or_insert(0.0) += sum(hidden)?;
        }
        self.masked_tokens += losses.masked_tokens;
        self.target_tokens += losses.target_tokens;
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Means {
    pub(super) updates: usize,
    pub(super) masked_tokens: usize,
    pub(super) loss: f64,
    pub(super) hidden_loss: Option<f64>,
    pub(super) length_loss: f64,
    pub(super) norm: f64,
}

impl Means {
    pub(super) fn add(&mut self, update: &Update) {
        self.updates += 1;
        self.masked_tokens += update.masked_tokens;
        self.loss += update.loss;
        self.length_loss += update.length_loss;
        self.norm += update.norm;
        if let Some(hidden) = update.hidden_loss {
            *self.hidden_loss.get_or_insert(0.0) += hidden;
        }
    }

    pub(super) fn per_token(&self, sum: f64) -> f64 {
        sum / self.masked_tokens.max(1) as f64
    }

    pub(super) fn norm(&self) -> f64 {
        self.norm / self.updates.max(1) as f64
    }
}
