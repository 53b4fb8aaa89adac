//! The mode of a forward pass: inference, or a training update with dropout.

use std::cell::Cell;

use candle_core::{Result, Tensor};

use super::gemm::Precision;
use super::ops;

/// Passed to every layer, and valid for one forward pass of one update. Each dropout site draws the next seed, in the
/// order of calls, so equal seeds give equal masks.
#[derive(Debug)]
pub struct Mode {
    dropout: f32,
    seed: Cell<u64>,
    precision: Precision,
}

impl Mode {
    /// No dropout, products in f32.
    pub fn inference() -> Self {
        Self { dropout: 0.0, seed: Cell::new(0), precision: Precision::F32 }
    }

    /// `dropout` is the probability that an activation is zeroed; `precision` is that of products.
    pub fn training(dropout: f32, seed: u64, precision: Precision) -> Self {
        Self { dropout, seed: Cell::new(seed), precision }
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Probability and seed of the next dropout.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn next_dropout(&self) -> (f32, u64) {
        // Fused and composed layers draw the same number of seeds, so they drop the same values.
        (self.dropout, if self.dropout == 0.0 { 0 } else { self.next_seed() })
    }

    fn next_seed(&self) -> u64 {
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        seed
    }

    /// `x` with a share `dropout` of its values zeroed and the others scaled up.
    pub fn dropout(&self, x: &Tensor) -> Result<Tensor> {
        if self.dropout == 0.0 { Ok(x.clone()) } else { ops::dropout(x, self.dropout, self.next_seed()) }
    }

    /// `x + dropout(branch)`, the residual connection of a sublayer.
    pub fn residual(&self, x: &Tensor, branch: &Tensor) -> Result<Tensor> {
        if self.dropout == 0.0 {
            ops::residual(x, branch)
        } else {
            ops::residual_dropout(x, branch, self.dropout, self.next_seed())
        }
    }
}
