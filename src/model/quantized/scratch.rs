//! Memory that passes reuse, so that a pass allocates very little.

use crate::nn::int8::{AttentionScratch, Buffer, Positive, Rows};

/// Shared by all blocks of a pass; each writes its own rows.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The residual stream, `[rows, d]`.
    pub(super) x: Buffer,
    /// Input of the current phase from other rows, and its output for the next phase.
    pub(super) now: Buffer,
    pub(super) next: Buffer,
    /// The residual stream and the queries of the last layer, `[wanted rows, d]` each.
    pub(super) last: Buffer,
    pub(super) queries: Buffer,
    /// Input of the product with the vocabulary.
    pub(super) wanted: Rows,
}

/// Memory of one thread for one block.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Input of a product.
    pub(super) rows: Rows,
    /// Hidden values of a feed-forward network.
    pub(super) positive: Positive,
    pub(super) hidden: Rows,
    /// Used in attention.
    pub(super) queries: Buffer,
    pub(super) mixed: Buffer,
    pub(super) attention: AttentionScratch,
    /// For each query of causal attention, the number of keys it attends to.
    pub(super) seen: Vec<usize>,
}
