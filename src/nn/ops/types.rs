//! What an op shares with its kernels and with the fused ops. This file is below them all, so that none of them needs
//! another for a type.

/// Which positions of its own sentence a position attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMask {
    /// All real positions.
    Whole,
    /// Itself and those before it.
    Causal,
}

impl AttentionMask {
    /// Number of the `keys` real positions that position `query` attends to.
    #[inline(always)]
    pub(super) fn of(self, query: usize, keys: usize) -> usize {
        match self {
            Self::Whole => keys,
            Self::Causal => keys.min(query + 1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
}

/// Which values dropout drops: a hash of a value's index decides.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    pub(super) seed: u32,
    /// Values with a hash below this are dropped.
    pub(super) threshold: u32,
    pub(super) scale: f32,
}

impl Mask {
    pub(super) fn new(p: f32, seed: u64) -> Self {
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self {
            seed: (mixed >> 32) as u32 ^ mixed as u32,
            threshold: (f64::from(p) * f64::from(u32::MAX)) as u32,
            scale: 1.0 / (1.0 - p),
        }
    }

    /// 0 or 1 / (1 - p) for the value at `index`: two rounds of a 32-bit finalizer.
    #[inline(always)]
    pub(super) fn at(self, index: usize) -> f32 {
        let mut h = (index as u32).wrapping_mul(0x9e37_79b1) ^ self.seed;
        h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
        h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
        h ^= h >> 16;
        if h < self.threshold { 0.0 } else { self.scale }
    }
}

/// The sums of one row's softmax.
pub(super) struct SoftmaxSums {
    /// The largest score.
    pub(super) top: f32,
    /// Σ e^(score - top)
    pub(super) sum: f32,
    /// ln Σ e^score, set after all scores are added.
    pub(super) log_sum: f32,
    /// Σ score
    pub(super) total: f32,
    /// The scores of the chosen classes.
    pub(super) chosen: Vec<f32>,
}

impl SoftmaxSums {
    pub(super) fn new(chosen: usize) -> Self {
        Self { top: f32::NEG_INFINITY, sum: 0.0, log_sum: 0.0, total: 0.0, chosen: vec![0.0; chosen] }
    }
}
