//! Statistics of updates for the log: sums over all ranks, and means over masked tokens.

use candle_core::Tensor;

use crate::Result;
use crate::train::objective::Losses;
use crate::train::update::ranks::RankContext;

/// Statistics of one update: losses are sums over its masked tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UpdateStats {
    pub(super) masked_tokens: usize,
    pub(super) target_tokens: usize,
    pub(super) loss: f64,
    pub(super) hidden_loss: Option<f64>,
    pub(super) length_loss: Option<f64>,
    pub(super) norm: f64,
    pub(super) applied: bool,
}

/// The losses of an update, still on the device.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) scalars: Vec<Tensor>,
    /// The kind of each scalar, and the number of masked tokens that it is a mean over.
    kinds: Vec<(LossKind, usize)>,
}

#[derive(Clone, Copy)]
enum LossKind {
    Tokens,
    Length,
    Hidden,
}

impl Pending {
    /// Adds losses, detached from the tape.
    pub(super) fn add(&mut self, losses: &Losses) {
        let known = [(LossKind::Tokens, Some(&losses.tokens)), (LossKind::Length, losses.length.as_ref())];
        for (kind, scalar) in known.into_iter().chain([(LossKind::Hidden, losses.hidden.as_ref())]) {
            if let Some(scalar) = scalar {
                self.scalars.push(scalar.detach());
                self.kinds.push((kind, losses.masked_tokens));
            }
        }
    }
}

impl UpdateStats {
    pub(super) fn count(&mut self, losses: &Losses) {
        self.masked_tokens += losses.masked_tokens;
        self.target_tokens += losses.target_tokens;
    }

    /// Replaces the token counts by their sums over all ranks.
    pub(super) fn count_all(&mut self, context: &RankContext) -> Result<()> {
        if let [masked, target] = context.sum(&[self.masked_tokens as f64, self.target_tokens as f64])?[..] {
            (self.masked_tokens, self.target_tokens) = (masked as usize, target as usize);
        }
        Ok(())
    }

    /// Replaces the losses by their sums over all ranks.
    pub(super) fn add_all(&mut self, context: &RankContext) -> Result<()> {
        let own = [self.loss, self.length_loss.unwrap_or_default(), self.hidden_loss.unwrap_or_default()];
        if let [loss, length, hidden] = context.sum(&own)?[..] {
            self.loss = loss;
            self.length_loss = self.length_loss.map(|_| length);
            self.hidden_loss = self.hidden_loss.map(|_| hidden);
        }
        Ok(())
    }

    /// Adds the `values` of the pending scalars.
    pub(super) fn read(&mut self, pending: &Pending, values: &[f32]) {
        for (&(kind, masked_tokens), &mean) in pending.kinds.iter().zip(values) {
            let sum = f64::from(mean) * masked_tokens as f64;
            match kind {
                LossKind::Tokens => self.loss += sum,
                LossKind::Length => *self.length_loss.get_or_insert(0.0) += sum,
                LossKind::Hidden => *self.hidden_loss.get_or_insert(0.0) += sum,
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Means {
    pub(super) updates: usize,
    pub(super) masked_tokens: usize,
    pub(super) loss: f64,
    pub(super) hidden_loss: Option<f64>,
    pub(super) length_loss: Option<f64>,
    pub(super) norm: f64,
}

impl Means {
    pub(super) fn add(&mut self, update: &UpdateStats) {
        self.updates += 1;
        self.masked_tokens += update.masked_tokens;
        self.loss += update.loss;
        self.norm += update.norm;
        for (sum, own) in
            [(&mut self.length_loss, update.length_loss), (&mut self.hidden_loss, update.hidden_loss)]
        {
            if let Some(own) = own {
                *sum.get_or_insert(0.0) += own;
            }
        }
    }

    pub(super) fn per_token(&self, sum: f64) -> f64 {
        sum / self.masked_tokens.max(1) as f64
    }

    pub(super) fn norm(&self) -> f64 {
        self.norm / self.updates.max(1) as f64
    }
}
