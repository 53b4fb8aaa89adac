//! The memory that passes write: one block, allocated once, so that every pass of one size uses the same addresses
//! and can be replayed as a graph.

use super::weights::{ALIGNMENT, padded};
use crate::Result;
use crate::model::Shape;
use crate::nn::device::{Address, Device, Element};

/// Rows of one product with the vocabulary. Few enough that their logits stay in the device's cache.
pub(super) const VOCABULARY_ROWS: usize = 1024;

/// The addresses of all arrays, for passes of at most `rows` rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrays {
    /// Uploaded by the host before a pass: see [`Inputs`].
    pub(super) inputs: Address,
    /// The residual stream, f32 `[rows, d]`.
    pub(super) x: Address,
    /// `[rows, d]` each: the residual stream after a norm, and the result of attention.
    pub(super) normed: Address,
    pub(super) mixed: Address,
    /// `[rows, 3 · d]`
    pub(super) qkv: Address,
    /// Queries of cross-attention, `[rows, d]`.
    pub(super) queries: Address,
    /// Hidden values of a feed-forward layer, `[rows, ffn]`.
    pub(super) hidden: Address,
    /// Encoder states, f32 `[rows, d]`.
    pub(super) states: Address,
    /// Keys and values for the decoder layers, `[rows, layers · 2 · d]`.
    pub(super) keys: Address,
    /// Log-probabilities of length classes, f32 `[sentences, classes]`.
    pub(super) classes: Address,
    /// f32 `[VOCABULARY_ROWS, padded vocabulary]`
    pub(super) logits: Address,
    /// The best tokens of the wanted rows, u32 `[rows, top_k]`, then their log-probabilities, f32.
    pub(super) best: Address,
}

impl Arrays {
    /// The layout from `base` on, and its end.
    fn lay_out(base: Address, shape: &Shape, element: Element, rows: usize) -> (Self, Address) {
        let mut end = base;
        let mut take = |bytes: usize| {
            let begin = end;
            end += bytes.next_multiple_of(ALIGNMENT) as u64;
            begin
        };
        let (d, size) = (shape.d_model, element.size());
        let arrays = Self {
            inputs: take(Inputs::bytes(rows)),
            x: take(rows * d * 4),
            normed: take(rows * d * size),
            mixed: take(rows * d * size),
            qkv: take(rows * 3 * d * size),
            queries: take(rows * d * size),
            hidden: take(rows * shape.ffn * size),
            states: take(rows * d * 4),
            keys: take(rows * shape.decoder_layers * 2 * d * size),
            classes: take(rows * shape.length_classes * 4),
            logits: take(rows.min(VOCABULARY_ROWS) * padded(shape.vocab) * 4),
            best: take(rows * shape.top_k() * 8),
        };
        (arrays, end)
    }
}

/// Memory for passes of at most `rows` rows.
#[derive(Debug)]
pub(super) struct Work<B> {
    _memory: B,
    pub(super) rows: usize,
    pub(super) arrays: Arrays,
    /// The next upload; reused for its capacity.
    pub(super) staged: Vec<u8>,
}

impl<B> Work<B> {
    pub(super) fn new<D: Device<Buffer = B>>(
        device: &D,
        shape: &Shape,
        element: Element,
        rows: usize,
    ) -> Result<Self> {
        let memory = device.allocate(Self::bytes(shape, element, rows))?;
        let arrays = Arrays::lay_out(device.address(&memory), shape, element, rows).0;
        Ok(Self { _memory: memory, rows, arrays, staged: Vec::new() })
    }

    pub(super) fn bytes(shape: &Shape, element: Element, rows: usize) -> usize {
        Arrays::lay_out(0, shape, element, rows).1 as usize
    }
}

/// The input of a pass of `rows` rows, one array after the other: keys u64 `[rows]`, starts u32 `[rows + 1]`, then
/// ids, positions, key lengths and wanted rows, u32 `[rows]` each. A pass has at most as many sentences as rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    pub(super) keys: Address,
    pub(super) starts: Address,
    pub(super) ids: Address,
    pub(super) positions: Address,
    pub(super) key_lengths: Address,
    pub(super) wanted: Address,
}

impl Inputs {
    pub(super) fn at(base: Address, rows: usize) -> Self {
        let words = |count: usize| base + rows as u64 * 8 + count as u64 * 4;
        Self {
            keys: base,
            starts: words(0),
            ids: words(rows + 1),
            positions: words(2 * rows + 1),
            key_lengths: words(3 * rows + 1),
            wanted: words(4 * rows + 1),
        }
    }

    fn bytes(rows: usize) -> usize {
        8 * rows + 4 * (5 * rows + 1)
    }
}

/// The rows of a pass, assembled by the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) ids: Vec<u32>,
    pub(super) positions: Vec<u32>,
    /// The first row of each sentence, and the end of the last one.
    pub(super) starts: Vec<u32>,
    /// Rows to predict.
    pub(super) wanted: Vec<u32>,
    /// For each sentence the address of its keys and values, and their number of rows.
    pub(super) keys: Vec<Address>,
    pub(super) key_lengths: Vec<u32>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { starts: vec![0], ..Self::default() }
    }

    pub(super) fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        self.starts.push(self.ids.len() as u32);
    }

    pub(super) fn rows(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn sentences(&self) -> usize {
        self.starts.len() - 1
    }

    /// Writes the layout of [`Inputs`] for `rows` rows. The padding consists of tokens without a sentence and
    /// sentences without tokens.
    pub(super) fn stage(&self, rows: usize, bytes: &mut Vec<u8>) {
        bytes.clear();
        let filled = |own: &[Address], bytes: &mut Vec<u8>| {
            own.iter().for_each(|v| bytes.extend_from_slice(&v.to_ne_bytes()));
            bytes.resize(bytes.len() + 8 * (rows - own.len()), 0);
        };
        filled(&self.keys, bytes);
        let mut words = |own: &[u32], count: usize, rest: u32| {
            own.iter().for_each(|v| bytes.extend_from_slice(&v.to_ne_bytes()));
            (own.len()..count).for_each(|_| bytes.extend_from_slice(&rest.to_ne_bytes()));
        };
        words(&self.starts, rows + 1, self.rows() as u32);
        words(&self.ids, rows, 0);
        words(&self.positions, rows, 0);
        words(&self.key_lengths, rows, 0);
        words(&self.wanted, rows, 0);
    }
}

#[cfg(test)]
mod tests;
