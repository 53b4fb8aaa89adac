//! Memory that passes reuse, so that a pass allocates almost nothing.

use crate::nn::int8::{AttentionScratch, Buffer, Positive, Rows};

/// What all blocks of a pass share; each writes its own rows.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The residual stream, `[rows, d]`.
    pub(super) x: Buffer,
    /// What the coming phase reads of other rows, and what it leaves for the one after it.
    pub(super) now: Buffer,
    pub(super) next: Buffer,
    /// The residual stream and the queries of the last layer, `[wanted rows, d]` each.
    pub(super) last: Buffer,
    pub(super) queries: Buffer,
    /// Rows that go into the product with the vocabulary.
    pub(super) wanted: Rows,
}

/// What one thread needs for one block.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What goes into a product.
    pub(super) rows: Rows,
    /// Inside a feed-forward.
    pub(super) positive: Positive,
    pub(super) hidden: Rows,
    /// Of attention.
    pub(super) queries: Buffer,
    pub(super) mixed: Buffer,
    pub(super) attention: AttentionScratch,
    /// Of each query of a causal attention, how many keys it sees.
    pub(super) seen: Vec<usize>,
}
