//! The steps of encoder and decoder passes.

use super::DeviceNetwork;
use super::weights::{CrossAttention, FeedForward, Linear, Norm, SelfAttention};
use super::work::{Arrays, Inputs};
use crate::Result;
use crate::nn::device::{Address, Argument, Device, Epilogue, Grid, Kernel, Product};

const EPSILON: f32 = 1e-5;
/// Threads of a warp, and keys of a tile of attention.
const LANES: usize = 32;
/// Threads of a block of attention; each warp computes one query.
const ATTENTION_THREADS: usize = 128;

/// One pass over `rows` rows of at most `sentences` sentences.
pub(super) struct DevicePass<'a, D: Device> {
    pub(super) network: &'a DeviceNetwork<D>,
    pub(super) arrays: Arrays,
    pub(super) inputs: Inputs,
    pub(super) rows: usize,
    pub(super) sentences: usize,
}

/// Which keys a sentence's rows attend to.
enum Keys {
    /// Those of the same rows (self-attention).
    Own,
    /// Those of the source, for this decoder layer (cross-attention).
    Source(usize),
}

/// A kernel argument that is a count or a stride; all are far below 2³².
fn count(value: usize) -> Argument {
    Argument::U32(value as u32)
}

impl<D: Device> DevicePass<'_, D> {
    /// The address `values` values after `base`.
    pub(super) fn offset(&self, base: Address, values: usize) -> Address {
        base + (values * self.network.element.size()) as u64
    }

    /// Number of threads for a row of `d` values.
    fn row_threads(&self) -> u32 {
        (self.network.shape.d_model / 2).next_multiple_of(LANES).clamp(LANES, 256) as u32
    }

    pub(super) fn embed(&self, positions: u64) -> Result<()> {
        let Self { network: n, inputs, .. } = self;
        let (weights, d) = (&n.weights, n.shape.d_model);
        n.device.launch(
            Kernel::Embed(n.element),
            Grid::rows(self.rows, self.row_threads()),
            &[
                weights.at(weights.embedding).into(),
                weights.at(positions).into(),
                inputs.ids.into(),
                inputs.positions.into(),
                self.arrays.x.into(),
                count(d),
                (d as f32).sqrt().into(),
            ],
        )
    }

    /// Normalizes the residual stream for a product.
    fn norm(&self, norm: Norm) -> Result<()> {
        self.norm_rows(norm, 0, 0, self.rows)
    }

    /// Normalizes rows of the residual stream: those listed at `chosen`, or the first `rows` if `chosen` is 0. Also
    /// writes them to `states` in f32, unless `states` is 0.
    pub(super) fn norm_rows(&self, norm: Norm, chosen: Address, states: Address, rows: usize) -> Result<()> {
        let n = self.network;
        n.device.launch(
            Kernel::Norm(n.element),
            Grid::rows(rows, self.row_threads()),
            &[
                self.arrays.x.into(),
                chosen.into(),
                n.weights.at(norm.gain).into(),
                n.weights.at(norm.bias).into(),
                self.arrays.normed.into(),
                states.into(),
                count(n.shape.d_model),
                EPSILON.into(),
            ],
        )
    }

    pub(super) fn product(&self, linear: Linear, x: Address, y: Address, epilogue: Epilogue) -> Result<()> {
        self.product_rows(linear, x, y, epilogue, self.rows)
    }

    pub(super) fn product_rows(
        &self,
        linear: Linear,
        x: Address,
        y: Address,
        epilogue: Epilogue,
        rows: usize,
    ) -> Result<()> {
        let n = self.network;
        n.device.product(&Product {
            element: n.element,
            x,
            weight: n.weights.at(linear.weight),
            bias: n.weights.at(linear.bias),
            y,
            rows,
            inputs: linear.inputs,
            outputs: linear.outputs,
            epilogue,
        })
    }

    /// Writes attention to `mixed`. Rows of `queries` are `stride` values apart.
    fn attention(&self, queries: Address, stride: usize, keys: Keys) -> Result<()> {
        let Self { network: n, inputs, arrays, .. } = self;
        let (d, heads) = (n.shape.d_model, n.shape.heads);
        let head = d / heads;
        let (own, sources, lengths, key_stride, key_at) = match keys {
            Keys::Own => (arrays.qkv, 0, 0, 3 * d, d),
            Keys::Source(layer) => {
                (0, inputs.keys, inputs.key_lengths, n.weights.keys_values.outputs, 2 * d * layer)
            }
        };
        let grid = Grid {
            width: self.sentences as u32,
            height: heads as u32,
            threads: ATTENTION_THREADS as u32,
            shared_floats: attention_floats(head),
        };
        n.device.launch(
            Kernel::Attention(n.element, n.columns),
            grid,
            &[
                queries.into(),
                count(stride),
                inputs.starts.into(),
                own.into(),
                sources.into(),
                lengths.into(),
                count(key_stride),
                count(key_at),
                count(key_at + d),
                arrays.mixed.into(),
                count(d),
                count(head),
                (head as f32).powf(-0.5).into(),
            ],
        )
    }

    pub(super) fn self_attention(&self, layer: &SelfAttention) -> Result<()> {
        let Arrays { x, normed, qkv, mixed, .. } = self.arrays;
        self.norm(layer.norm)?;
        self.product(layer.qkv, normed, qkv, Epilogue::Store)?;
        self.attention(qkv, layer.qkv.outputs, Keys::Own)?;
        self.product(layer.output, mixed, x, Epilogue::Add)
    }

    pub(super) fn cross_attention(&self, layer: &CrossAttention, index: usize) -> Result<()> {
        let Arrays { x, normed, queries, mixed, .. } = self.arrays;
        self.norm(layer.norm)?;
        self.product(layer.query, normed, queries, Epilogue::Store)?;
        self.attention(queries, layer.query.outputs, Keys::Source(index))?;
        self.product(layer.output, mixed, x, Epilogue::Add)
    }

    pub(super) fn feed_forward(&self, layer: &FeedForward) -> Result<()> {
        let Arrays { x, normed, hidden, .. } = self.arrays;
        self.norm(layer.norm)?;
        self.product(layer.inner, normed, hidden, Epilogue::Relu)?;
        self.product(layer.outer, hidden, x, Epilogue::Add)
    }

    /// Computes the length head, if the model has one.
    pub(super) fn length_classes(&self) -> Result<()> {
        let n = self.network;
        let Some(Linear { weight, bias, inputs, outputs }) = n.weights.length else { return Ok(()) };
        let shared_floats = length_floats(inputs, outputs);
        n.device.launch(
            Kernel::LengthClasses,
            Grid { shared_floats, ..Grid::rows(self.sentences, 256) },
            &[
                self.arrays.states.into(),
                self.inputs.starts.into(),
                n.weights.at(weight).into(),
                n.weights.at(bias).into(),
                self.arrays.classes.into(),
                count(inputs),
                count(outputs),
            ],
        )
    }

    /// Finds the best tokens of `rows` rows of logits. They are the wanted rows from `first` on; the result has space
    /// for `capacity` rows.
    pub(super) fn best_tokens(&self, first: usize, rows: usize, capacity: usize) -> Result<()> {
        let n = self.network;
        let top_k = n.shape.top_k();
        let tokens = self.arrays.best + (4 * first * top_k) as u64;
        n.device.launch(
            Kernel::BestTokens,
            Grid::rows(rows, 256),
            &[
                self.arrays.logits.into(),
                count(n.weights.output.outputs),
                count(n.forbidden()),
                count(n.shape.vocab),
                count(top_k),
                tokens.into(),
                (tokens + (4 * capacity * top_k) as u64).into(),
            ],
        )
    }
}

/// Shared memory of attention, in floats: a tile of keys, one of values, and for each warp a query and the weights of
/// a tile.
pub(super) fn attention_floats(head: usize) -> usize {
    2 * LANES * (head + 1) + ATTENTION_THREADS / LANES * (head + LANES)
}

/// Shared memory of the length head, in floats.
pub(super) fn length_floats(width: usize, classes: usize) -> usize {
    LANES + width + classes
}
