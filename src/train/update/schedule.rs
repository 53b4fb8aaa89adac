//! The learning rate as a function of the number of the update.

use crate::train::config::{Dims, Train};

/// Linear warm-up, then inverse square root, limited by a cap, then (optionally) linear down to zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The rate at the end of the warm-up.
    pub peak: f64,
    /// Number of updates until the peak; 0 counts as 1.
    pub warmup: u64,
    /// Largest rate; infinite for none. With a warm-up of 1 it gives the schedule of a short stage: constant until
    /// peak/√n falls below it, then that.
    pub cap: f64,
    /// Number of first updates over which a factor on the rate rises linearly to 1; 0 for none.
    pub ramp: u64,
    /// Number of updates of the whole run; used only by a cooldown.
    pub updates: u64,
    /// Number of last updates over which the rate falls linearly; 0 for none.
    pub cooldown: u64,
}

impl Schedule {
    /// The schedule of `[train]`.
    pub fn of(train: &Train) -> Self {
        let Train { learning_rate: peak, warmup, updates, cooldown, .. } = *train;
        Self { peak, warmup, cap: f64::INFINITY, ramp: 0, updates, cooldown }
    }

    /// The schedule of `[dims]`.
    pub fn of_dims(dims: &Dims) -> Self {
        let Dims { learning_rate: peak, learning_rate_cap: cap, warmup: ramp, updates, cooldown, .. } = *dims;
        Self { peak, warmup: 1, cap, ramp, updates, cooldown }
    }

    /// The rate of update `n`, counted from 1: min(1, n/ramp) · min(cap, peak · min(n/w, √(w/n))) up to update
    /// `updates − cooldown`. From there it falls by equal amounts, so that the update after the last one would have
    /// rate 0.
    pub fn rate(&self, n: u64) -> f64 {
        let falls_after = self.updates.saturating_sub(self.cooldown);
        if self.cooldown == 0 || n <= falls_after {
            return self.without_cooldown(n);
        }
        let left = (self.updates + 1).saturating_sub(n) as f64;
        let whole = (self.updates + 1 - falls_after) as f64;
        self.without_cooldown(falls_after.max(1)) * left / whole
    }

    fn without_cooldown(&self, n: u64) -> f64 {
        let (n, warmup) = (n as f64, self.warmup.max(1) as f64);
        let reached = (n / self.ramp.max(1) as f64).min(1.0);
        reached * (self.peak * (n / warmup).min((warmup / n.max(1.0)).sqrt())).min(self.cap)
    }
}

#[cfg(test)]
mod tests;
