//! The weights of a layer, and what it computes for a block of rows between two self-attentions.

use std::collections::HashMap;
use std::sync::OnceLock;

use candle_core::Tensor;

use super::block::Block;
use super::candidates::Candidates;
use super::scratch::Scratch;
use crate::model::{DecoderAttention, NormPlace, Shape};
use crate::nn::int8::kernel::Path;
use crate::nn::int8::{Attention, Buffer, Input, Norm, PackedLinear, Rows, StoreMode, Strided};
use crate::nn::ops::with_values;
use crate::{Error, Result};

/// Tensors by name.
pub(super) struct Weights<'a> {
    tensors: &'a HashMap<String, Tensor>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(tensors: &'a HashMap<String, Tensor>) -> Self {
        Self { tensors }
    }

    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor =
            self.tensors.get(name).ok_or_else(|| Error::Model(format!("tensor {name:?} is missing")))?;
        Ok(with_values(tensor, <[f32]>::to_vec)?)
    }

    pub(super) fn norm(&self, name: &str) -> Result<Norm> {
        Ok(Norm::new(self.values(&format!("{name}.weight"))?, self.values(&format!("{name}.bias"))?))
    }

    /// The product that computes keys and values for all decoder layers: `[d] -> [layers, 2, d]`.
    pub(super) fn keys_values(&self, shape: &Shape) -> Result<PackedLinear> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for layer in 0..shape.decoder_layers {
            weight.extend(self.values(&format!("decoder.layers.{layer}.cross.key_value.weight"))?);
            bias.extend(self.values(&format!("decoder.layers.{layer}.cross.key_value.bias"))?);
        }
        PackedLinear::new(&weight, &bias, shape.d_model, Input::Signed)
    }

    fn linear(&self, name: &str, inputs: usize, input: Input) -> Result<PackedLinear> {
        let (weight, bias) = (self.values(&format!("{name}.weight"))?, self.values(&format!("{name}.bias"))?);
        PackedLinear::new(&weight, &bias, inputs, input)
    }
}

/// The norm of a sublayer, before or after it.
#[derive(Debug)]
struct PlacedNorm {
    norm: Norm,
    place: NormPlace,
}

impl PlacedNorm {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        Ok(Self { norm: weights.norm(name)?, place: shape.norm })
    }

    /// Quantizes the input of the sublayer, from the residual stream `x [_, d]`.
    fn before(&self, x: &[f32], rows: &mut Rows) {
        match self.place {
            NormPlace::Pre => rows.quantize_normed(x, &self.norm),
            NormPlace::Post => rows.quantize(x, self.norm.width(), Input::Signed),
        }
    }

    /// Call it when the sublayer's result has been added to `x`.
    fn after(&self, x: &mut [f32]) {
        if self.place == NormPlace::Post {
            self.norm.apply(x);
        }
    }
}

#[derive(Debug)]
struct FeedForward {
    norm: PlacedNorm,
    inner: PackedLinear,
    outer: PackedLinear,
}

impl FeedForward {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        Ok(Self {
            norm: PlacedNorm::new(weights, &format!("{name}.feed_forward_norm"), shape)?,
            inner: weights.linear(&format!("{name}.feed_forward.inner"), shape.d_model, Input::Signed)?,
            outer: weights.linear(&format!("{name}.feed_forward.outer"), shape.ffn, Input::NonNegative)?,
        })
    }

    /// `x += outer(relu(inner(x)))` with its norm. Works on a few rows at a time, so that the values stay in
    /// the cache.
    fn run(&self, x: &mut [f32], scratch: &mut Scratch) {
        let Scratch { rows, positive, hidden, .. } = scratch;
        for x in x.chunks_mut(Path::best().rows_of_tiles() * self.outer.outputs()) {
            self.norm.before(x, rows);
            self.inner.forward_relu(rows, positive, hidden);
            self.outer.forward(hidden, StoreMode::Add, x);
            self.norm.after(x);
        }
    }
}

#[derive(Debug)]
pub(super) struct SelfAttention {
    norm: PlacedNorm,
    qkv: PackedLinear,
    output: PackedLinear,
    heads: usize,
    /// Whether a position attends only to itself and those before it.
    causal: bool,
}

impl SelfAttention {
    fn new(weights: &Weights, name: &str, shape: &Shape, causal: bool) -> Result<Self> {
        let d = shape.d_model;
        Ok(Self {
            norm: PlacedNorm::new(weights, &format!("{name}_norm"), shape)?,
            qkv: weights.linear(&format!("{name}.qkv"), d, Input::Signed)?,
            output: weights.linear(&format!("{name}.output"), d, Input::Signed)?,
            heads: shape.heads,
            causal,
        })
    }

    /// The queries among the rows of `qkv`.
    pub(super) fn queries<'a>(&self, qkv: &'a [f32]) -> Strided<'a> {
        Strided { data: qkv, stride: self.qkv.outputs() }
    }

    /// Computes queries, keys and values `[count, 3 · d]` of a block of the residual stream `x [count, d]`.
    pub(super) fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.norm.before(x, &mut scratch.rows);
        self.qkv.forward(&scratch.rows, StoreMode::Store, qkv);
    }

    /// `x += output(attention)` with its norm, for the rows `x` of `block`. Row `i` of `queries` attends to the keys
    /// and values of its sentence in `qkv`.
    pub(super) fn run(
        &self,
        x: &mut [f32],
        block: &Block,
        queries: Strided,
        qkv: &[f32],
        scratch: &mut Scratch,
    ) {
        let Scratch { rows, attention, mixed, seen, .. } = scratch;
        let d = self.output.outputs();
        let mixed = mixed.take(x.len());
        for part in block.parts() {
            let len = part.sentence.len();
            let qkv = &qkv[part.sentence.start * 3 * d..][..len * 3 * d];
            let of = |third: usize| Strided { data: &qkv[third * d..], stride: 3 * d };
            let keys_values = Attention { width: d, heads: self.heads, len, keys: of(1), values: of(2) };
            let out = &mut mixed[(part.rows.start - block.rows.start) * d..][..part.rows.len() * d];
            let queries = queries.from(part.rows.start);
            if self.causal {
                seen.clear();
                seen.extend(block.positions(&part).map(|position| position + 1));
                keys_values.attend_to_first(queries, seen, attention, out);
            } else {
                keys_values.attend(queries, part.rows.len(), attention, out);
            }
        }
        rows.quantize(mixed, d, Input::Signed);
        self.output.forward(rows, StoreMode::Add, x);
        self.norm.after(x);
    }
}

/// Keys and values of one source sentence for every decoder layer.
#[derive(Debug)]
pub struct SentenceKeys {
    /// `[len, layers, 2, width]`: the key and the value of each token for each layer.
    rows: Buffer,
    layers: usize,
    len: usize,
    width: usize,
    /// The source, kept if candidates may be needed.
    source: Box<[u32]>,
    /// Computed when first needed.
    pub(super) candidates: OnceLock<Candidates>,
}

impl SentenceKeys {
    /// From `rows [len, layers, 2, width]`.
    pub(super) fn new(rows: &[f32], layers: usize, width: usize, source: &[u32]) -> Self {
        let len = rows.len() / (layers * 2 * width);
        let mut this = Self {
            rows: Buffer::default(),
            layers,
            len,
            width,
            source: source.into(),
            candidates: OnceLock::new(),
        };
        this.rows.take(rows.len()).copy_from_slice(rows);
        this
    }

    /// The encoded sentence, or nothing if candidates are never needed.
    pub(super) fn source(&self) -> &[u32] {
        &self.source
    }

    pub(super) fn attention(&self, layer: usize, heads: usize) -> Attention<'_> {
        let stride = self.layers * 2 * self.width;
        let rows = &self.rows.values(self.len * stride)[layer * 2 * self.width..];
        let keys = Strided { data: rows, stride };
        let values = Strided { data: &rows[self.width..], stride };
        Attention { width: self.width, heads, len: self.len, keys, values }
    }
}

#[derive(Debug)]
struct CrossAttention {
    norm: PlacedNorm,
    query: PackedLinear,
    output: PackedLinear,
    heads: usize,
}

impl CrossAttention {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        let d = shape.d_model;
        let linear = |part: &str| weights.linear(&format!("{name}.cross.{part}"), d, Input::Signed);
        Ok(Self {
            norm: PlacedNorm::new(weights, &format!("{name}.cross_norm"), shape)?,
            query: linear("query")?,
            output: linear("output")?,
            heads: shape.heads,
        })
    }

    /// Computes the queries of the rows `x`.
    fn queries(&self, x: &[f32], rows: &mut Rows, queries: &mut [f32]) {
        self.norm.before(x, rows);
        self.query.forward(rows, StoreMode::Store, queries);
    }

    /// `x += output(cross-attention)` with its norm, for the `queries` of the same rows.
    fn run<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        queries: &[f32],
        memory: impl Fn(usize) -> Attention<'m>,
        scratch: &mut Scratch,
    ) {
        let Scratch { rows, attention, mixed, .. } = scratch;
        let d = self.output.outputs();
        let mixed = mixed.take(x.len());
        for part in block.parts() {
            let start = (part.rows.start - block.rows.start) * d;
            let queries = Strided { data: &queries[start..], stride: d };
            let out = &mut mixed[start..][..part.rows.len() * d];
            memory(part.index).attend(queries, part.rows.len(), attention, out);
        }
        rows.quantize(mixed, d, Input::Signed);
        self.output.forward(rows, StoreMode::Add, x);
        self.norm.after(x);
    }
}

#[derive(Debug)]
pub(super) struct EncoderLayer {
    attention: SelfAttention,
    feed_forward: FeedForward,
}

impl EncoderLayer {
    pub(super) fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        Ok(Self {
            attention: SelfAttention::new(weights, &format!("{name}.attention"), shape, false)?,
            feed_forward: FeedForward::new(weights, name, shape)?,
        })
    }

    /// Computes queries, keys and values `[count, 3 · d]` of a block of the residual stream `x [count, d]`.
    pub(super) fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.attention.prepare(x, qkv, scratch);
    }

    /// Applies the layer to the rows `x` of `block`. `qkv` must hold all rows of their sentences.
    pub(super) fn run(&self, x: &mut [f32], block: &Block, qkv: &[f32], scratch: &mut Scratch) {
        self.attention.run(x, block, self.attention.queries(qkv), qkv, scratch);
        self.feed_forward.run(x, scratch);
    }
}

#[derive(Debug)]
pub(super) struct DecoderLayer {
    /// An additional self-attention over the whole canvas before the layer's own (CMLMC).
    whole: Option<SelfAttention>,
    attention: SelfAttention,
    cross: CrossAttention,
    feed_forward: FeedForward,
}

impl DecoderLayer {
    pub(super) fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        let causal = shape.decoder_attention == DecoderAttention::WholeThenCausal;
        let whole = || SelfAttention::new(weights, &format!("{name}.whole_attention"), shape, false);
        Ok(Self {
            whole: causal.then(whole).transpose()?,
            attention: SelfAttention::new(weights, &format!("{name}.attention"), shape, causal)?,
            cross: CrossAttention::new(weights, name, shape)?,
            feed_forward: FeedForward::new(weights, name, shape)?,
        })
    }

    /// Prepares the first self-attention of the layer.
    pub(super) fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.whole.as_ref().unwrap_or(&self.attention).prepare(x, qkv, scratch);
    }

    /// The additional self-attention over the whole canvas.
    pub(super) fn whole(&self) -> Option<&SelfAttention> {
        self.whole.as_ref()
    }

    /// Prepares the layer's own self-attention, after the additional one.
    pub(super) fn prepare_own(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.attention.prepare(x, qkv, scratch);
    }

    /// As [`EncoderLayer::run`], from the layer's own self-attention on. `memory(sentence)` returns the source's keys
    /// and values for this layer.
    pub(super) fn run<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        qkv: &[f32],
        memory: impl Fn(usize) -> Attention<'m>,
        scratch: &mut Scratch,
    ) {
        self.run_some(x, block, self.attention.queries(qkv), qkv, memory, scratch);
    }

    /// Applies the layer to only some rows of each sentence, `x` and `queries`; `block` counts these.
    pub(super) fn run_some<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        queries: Strided,
        qkv: &[f32],
        memory: impl Fn(usize) -> Attention<'m>,
        scratch: &mut Scratch,
    ) {
        self.attention.run(x, block, queries, qkv, scratch);
        let mut queries = std::mem::take(&mut scratch.queries);
        let of_rows = queries.take(x.len());
        self.cross.queries(x, &mut scratch.rows, of_rows);
        self.finish(x, block, of_rows, memory, scratch);
        scratch.queries = queries;
    }

    /// Applies the layer up to cross-attention: self-attention on `x`, and the queries of cross-attention.
    pub(super) fn begin(
        &self,
        x: &mut [f32],
        block: &Block,
        qkv: &[f32],
        queries: &mut [f32],
        scratch: &mut Scratch,
    ) {
        self.attention.run(x, block, self.attention.queries(qkv), qkv, scratch);
        self.cross.queries(x, &mut scratch.rows, queries);
    }

    /// Applies the rest of the layer after [`begin`](Self::begin).
    pub(super) fn finish<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        queries: &[f32],
        memory: impl Fn(usize) -> Attention<'m>,
        scratch: &mut Scratch,
    ) {
        self.cross.run(x, block, queries, memory, scratch);
        self.feed_forward.run(x, scratch);
    }

    /// Number of attention heads.
    pub(super) fn heads(&self) -> usize {
        self.cross.heads
    }
}
