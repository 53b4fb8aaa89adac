//! Memory that passes reuse, so that a pass allocates next to nothing.

use crate::nn::int8::Rows;

/// What all blocks of a pass share; each writes its own rows.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The residual stream, `[rows, d]`.
    pub(super) x: Vec<f32>,
    /// What the coming phase reads of other rows, and what it leaves for the one after it.
    pub(super) now: Vec<f32>,
    pub(super) next: Vec<f32>,
    /// Rows that go into the product with the vocabulary.
    pub(super) wanted: Rows,
}

/// What one thread needs for one block.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) rows: Rows,
    pub(super) hidden: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    /// Keys of a sentence, transposed.
    pub(super) keys: Vec<f32>,
    /// Attention weights.
    pub(super) weights: Vec<f32>,
}
