//! A layer's weights, and what one block of rows does between two self-attentions.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::Tensor;

use super::scratch::Scratch;
use crate::model::Shape;
use crate::nn::int8::{Attention, Input, Norm, PackedLinear, Strided, Then, padded_keys, transpose_keys};
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

    /// The product that makes keys and values for every decoder layer at once: `[layers, 2, d]` of `[d]`.
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

#[derive(Debug)]
struct FeedForward {
    norm: Norm,
    inner: PackedLinear,
    outer: PackedLinear,
}

impl FeedForward {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        Ok(Self {
            norm: weights.norm(&format!("{name}.feed_forward_norm"))?,
            inner: weights.linear(&format!("{name}.feed_forward.inner"), shape.d_model, Input::Signed)?,
            outer: weights.linear(&format!("{name}.feed_forward.outer"), shape.ffn, Input::NonNegative)?,
        })
    }

    /// `x += outer(relu(inner(norm(x))))`
    fn run(&self, x: &mut [f32], scratch: &mut Scratch) {
        let Scratch { rows, hidden, .. } = scratch;
        let (d, ffn) = (self.outer.outputs(), self.outer.inputs());
        let count = x.len() / d;
        rows.fill(count, d, Input::Signed, |i, row| self.norm.apply(&x[i * d..][..d], row));
        hidden.resize(count * ffn, 0.0);
        self.inner.forward(rows, Then::Relu, hidden);
        rows.fill(count, ffn, Input::NonNegative, |i, row| row.copy_from_slice(&hidden[i * ffn..][..ffn]));
        self.outer.forward(rows, Then::Add, x);
    }
}

#[derive(Debug)]
struct SelfAttention {
    norm: Norm,
    qkv: PackedLinear,
    output: PackedLinear,
    heads: usize,
}

impl SelfAttention {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        let d = shape.d_model;
        Ok(Self {
            norm: weights.norm(&format!("{name}.attention_norm"))?,
            qkv: weights.linear(&format!("{name}.attention.qkv"), d, Input::Signed)?,
            output: weights.linear(&format!("{name}.attention.output"), d, Input::Signed)?,
            heads: shape.heads,
        })
    }

    fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        let d = self.qkv.inputs();
        scratch.rows.fill(x.len() / d, d, Input::Signed, |i, row| self.norm.apply(&x[i * d..][..d], row));
        self.qkv.forward(&scratch.rows, Then::Store, qkv);
    }

    /// `x += output(attention)` for the rows `block`, each looking at its whole sentence in `qkv`.
    fn run(&self, x: &mut [f32], block: &Block, qkv: &[f32], scratch: &mut Scratch) {
        let Scratch { rows, keys, weights, mixed, .. } = scratch;
        let d = self.output.outputs();
        mixed.resize(x.len(), 0.0);
        for part in block.parts() {
            let len = part.sentence.len();
            let qkv = &qkv[part.sentence.start * 3 * d..][..len * 3 * d];
            let of = |third: usize| Strided { data: &qkv[third * d..], stride: 3 * d };
            keys.resize(keys.len().max(d * padded_keys(len)), 0.0);
            transpose_keys(of(1), len, d, keys);
            let queries =
                Strided { data: &qkv[(part.rows.start - part.sentence.start) * 3 * d..], stride: 3 * d };
            let attention =
                Attention { width: d, heads: self.heads, keys: len, keys_transposed: keys, values: of(2) };
            let out = &mut mixed[(part.rows.start - block.rows.start) * d..][..part.rows.len() * d];
            attention.attend(queries, part.rows.len(), weights, out);
        }
        rows.fill(x.len() / d, d, Input::Signed, |i, row| row.copy_from_slice(&mixed[i * d..][..d]));
        self.output.forward(rows, Then::Add, x);
    }
}

/// Keys (transposed) and values of one source sentence for every decoder layer, in one buffer.
#[derive(Clone, Debug)]
pub struct SentenceKeys {
    /// Of each layer: keys `[d, padded_keys]`, then values `[len, d]`.
    values: Vec<f32>,
    len: usize,
    width: usize,
}

impl SentenceKeys {
    /// From `rows [len, layers, 2, d]`: of each token the key and the value for each layer.
    pub(super) fn new(rows: &[f32], layers: usize, width: usize) -> Self {
        let stride = layers * 2 * width;
        let len = rows.len() / stride;
        let keys = width * padded_keys(len);
        let mut values = Vec::with_capacity(layers * (keys + len * width));
        for layer in 0..layers {
            let start = values.len();
            values.resize(start + keys, 0.0);
            let of_layer = Strided { data: &rows[layer * 2 * width..], stride };
            transpose_keys(of_layer, len, width, &mut values[start..]);
            for row in rows.chunks_exact(stride) {
                values.extend_from_slice(&row[(2 * layer + 1) * width..][..width]);
            }
        }
        Self { values, len, width }
    }

    fn attention(&self, layer: usize, heads: usize) -> Attention<'_> {
        let keys = self.width * padded_keys(self.len);
        let size = keys + self.len * self.width;
        let (keys_transposed, values) = self.values[layer * size..][..size].split_at(keys);
        let values = Strided { data: values, stride: self.width };
        Attention { width: self.width, heads, keys: self.len, keys_transposed, values }
    }
}

#[derive(Debug)]
struct CrossAttention {
    norm: Norm,
    query: PackedLinear,
    output: PackedLinear,
    heads: usize,
}

impl CrossAttention {
    fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        let d = shape.d_model;
        let linear = |part: &str| weights.linear(&format!("{name}.cross.{part}"), d, Input::Signed);
        Ok(Self {
            norm: weights.norm(&format!("{name}.cross_norm"))?,
            query: linear("query")?,
            output: linear("output")?,
            heads: shape.heads,
        })
    }

    /// `x += output(attention to the source)`
    fn run<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        memory: impl Fn(usize) -> &'m SentenceKeys,
        layer: usize,
        scratch: &mut Scratch,
    ) {
        let Scratch { rows, weights, mixed, hidden, .. } = scratch;
        let d = self.output.outputs();
        rows.fill(x.len() / d, d, Input::Signed, |i, row| self.norm.apply(&x[i * d..][..d], row));
        hidden.resize(x.len(), 0.0);
        self.query.forward(rows, Then::Store, hidden);
        mixed.resize(x.len(), 0.0);
        for part in block.parts() {
            let start = (part.rows.start - block.rows.start) * d;
            let queries = Strided { data: &hidden[start..], stride: d };
            let out = &mut mixed[start..][..part.rows.len() * d];
            memory(part.index).attention(layer, self.heads).attend(queries, part.rows.len(), weights, out);
        }
        rows.fill(x.len() / d, d, Input::Signed, |i, row| row.copy_from_slice(&mixed[i * d..][..d]));
        self.output.forward(rows, Then::Add, x);
    }
}

/// Some rows of the packed batch.
pub(super) struct Block<'a> {
    pub(super) rows: Range<usize>,
    /// Where each sentence starts, and the end of the last.
    pub(super) starts: &'a [usize],
}

/// The rows of a block that belong to one sentence.
pub(super) struct Part {
    /// Of the sentence in the batch.
    pub(super) index: usize,
    /// All its rows.
    sentence: Range<usize>,
    rows: Range<usize>,
}

impl Part {
    /// The positions of the block's rows in the sentence.
    pub(super) fn positions(&self) -> Range<usize> {
        self.rows.start - self.sentence.start..self.rows.end - self.sentence.start
    }
}

impl Block<'_> {
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let first = self.starts.partition_point(|&start| start <= self.rows.start) - 1;
        let sentences = self.starts.windows(2).enumerate().skip(first);
        sentences.take_while(|(_, ends)| ends[0] < self.rows.end).map(|(index, ends)| Part {
            index,
            sentence: ends[0]..ends[1],
            rows: self.rows.start.max(ends[0])..self.rows.end.min(ends[1]),
        })
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
            attention: SelfAttention::new(weights, name, shape)?,
            feed_forward: FeedForward::new(weights, name, shape)?,
        })
    }

    /// Queries, keys and values `[count, 3 · d]` of a block of the residual stream `x [count, d]`.
    pub(super) fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.attention.prepare(x, qkv, scratch);
    }

    /// The layer for the rows `x` of `block`, once `qkv` holds all rows of their sentences.
    pub(super) fn run(&self, x: &mut [f32], block: &Block, qkv: &[f32], scratch: &mut Scratch) {
        self.attention.run(x, block, qkv, scratch);
        self.feed_forward.run(x, scratch);
    }
}

#[derive(Debug)]
pub(super) struct DecoderLayer {
    attention: SelfAttention,
    cross: CrossAttention,
    feed_forward: FeedForward,
}

impl DecoderLayer {
    pub(super) fn new(weights: &Weights, name: &str, shape: &Shape) -> Result<Self> {
        Ok(Self {
            attention: SelfAttention::new(weights, name, shape)?,
            cross: CrossAttention::new(weights, name, shape)?,
            feed_forward: FeedForward::new(weights, name, shape)?,
        })
    }

    pub(super) fn prepare(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        self.attention.prepare(x, qkv, scratch);
    }

    /// As [`EncoderLayer::run`]; `memory(sentence)` are the source's keys, `layer` counts from 0.
    pub(super) fn run<'m>(
        &self,
        x: &mut [f32],
        block: &Block,
        qkv: &[f32],
        memory: impl Fn(usize) -> &'m SentenceKeys,
        layer: usize,
        scratch: &mut Scratch,
    ) {
        self.attention.run(x, block, qkv, scratch);
        self.cross.run(x, block, memory, layer, scratch);
        self.feed_forward.run(x, scratch);
    }
}
