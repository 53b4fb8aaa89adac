//! The kernels of training and their grids.

use super::{Grid, Kernel};

/// The functions of `training.cuh`. Their arguments are documented there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Training {
    Dropout,
    Residual,
    Bias,
    ReluGradient,
    NormGradient,
    AttentionWeights,
    AttentionGradient,
    CrossEntropy,
    CrossEntropyGradient,
    Divergence,
    DivergenceGradient,
    ColumnSums,
    Squares,
    AdamW,
    Ema,
}

impl Training {
    pub const ALL: [Self; 15] = [
        Self::Dropout,
        Self::Residual,
        Self::Bias,
        Self::ReluGradient,
        Self::NormGradient,
        Self::AttentionWeights,
        Self::AttentionGradient,
        Self::CrossEntropy,
        Self::CrossEntropyGradient,
        Self::Divergence,
        Self::DivergenceGradient,
        Self::ColumnSums,
        Self::Squares,
        Self::AdamW,
        Self::Ema,
    ];

    /// Number of rows that [`Self::ColumnSums`] adds up to one.
    pub const SUMMED_ROWS: usize = 128;
    /// Number of values that [`Self::Squares`] adds up to one.
    pub const SQUARED: usize = 16384;

    /// Its name in `training.cuh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dropout => "dropout_f32",
            Self::Residual => "residual_f32",
            Self::Bias => "bias_f32",
            Self::ReluGradient => "relu_gradient_f32",
            Self::NormGradient => "norm_gradient_f32",
            Self::AttentionWeights => "attention_weights_f32",
            Self::AttentionGradient => "attention_gradient_f32",
            Self::CrossEntropy => "cross_entropy_f32",
            Self::CrossEntropyGradient => "cross_entropy_gradient_f32",
            Self::Divergence => "divergence_f32",
            Self::DivergenceGradient => "divergence_gradient_f32",
            Self::ColumnSums => "column_sums_f32",
            Self::Squares => "squares_f32",
            Self::AdamW => "adamw_f32",
            Self::Ema => "ema_f32",
        }
    }
}

impl From<Training> for Kernel {
    fn from(kernel: Training) -> Self {
        Self::Training(kernel)
    }
}

impl Grid {
    /// For a kernel that handles `count` values one by one.
    pub fn values(count: usize) -> Self {
        const THREADS: u32 = 256;
        const SHARE: usize = 4;
        Self::rows(count.div_ceil(THREADS as usize * SHARE), THREADS)
    }

    /// For [`Training::ColumnSums`] of `rows` rows of `width` values.
    pub fn column_sums(rows: usize, width: usize) -> Self {
        const THREADS: u32 = 128;
        let height = width.div_ceil(THREADS as usize) as u32;
        Self { height, ..Self::rows(rows.div_ceil(Training::SUMMED_ROWS), THREADS) }
    }

    /// For [`Training::Squares`] of `count` values: one block for each result.
    pub fn squares(count: usize) -> Self {
        Self::rows(count.div_ceil(Training::SQUARED), 256)
    }
}
