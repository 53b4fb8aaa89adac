//! A network's tensors in one block of device memory.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::model::Shape;
use crate::nn::device::{Address, Device, Element};
use crate::nn::ops::with_values;
use crate::{Error, Result};

/// Tensors start at multiples of this number of bytes.
pub(super) const ALIGNMENT: usize = 256;

/// An affine map: a matrix `[outputs, inputs]` and a bias, as offsets into the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// Gain and bias of a layer norm, as offsets into the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub(super) gain: u64,
    pub(super) bias: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SelfAttention {
    pub(super) norm: Norm,
    pub(super) qkv: Linear,
    pub(super) output: Linear,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct CrossAttention {
    pub(super) norm: Norm,
    pub(super) query: Linear,
    pub(super) output: Linear,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FeedForward {
    pub(super) norm: Norm,
    pub(super) inner: Linear,
    pub(super) outer: Linear,
}

/// The memory that passes read and never write.
#[derive(Debug)]
pub(super) struct Weights<B> {
    _memory: B,
    base: Address,
    pub(super) bytes: usize,
    /// `[padded vocabulary, d]`; also the weight of `output`.
    pub(super) embedding: u64,
    pub(super) encoder_positions: u64,
    pub(super) decoder_positions: u64,
    pub(super) encoder: Vec<(SelfAttention, FeedForward)>,
    pub(super) encoder_norm: Norm,
    /// The length head, in f32: it is small, and a wrong length costs whole words. `None` for an Imputer.
    pub(super) length: Option<Linear>,
    /// Computes keys and values of all decoder layers from encoder states: outputs `[layers, 2, d]`.
    pub(super) keys_values: Linear,
    pub(super) decoder: Vec<(SelfAttention, CrossAttention, FeedForward)>,
    pub(super) decoder_norm: Norm,
    /// To the padded vocabulary. Scores of the padding are ignored.
    pub(super) output: Linear,
}

impl<B> Weights<B> {
    /// # Errors
    /// [`Error::Model`] for a missing tensor, and the errors of the device.
    pub(super) fn new<D: Device<Buffer = B>>(
        device: &D,
        shape: &Shape,
        tensors: &HashMap<String, Tensor>,
        element: Element,
    ) -> Result<Self> {
        let mut pack = Packer { tensors, element, bytes: Vec::new() };
        let (d, vocab) = (shape.d_model, padded(shape.vocab));
        let mut table = pack.values("embedding.weight")?;
        table.resize(vocab * d, 0.0);
        let embedding = pack.put(element, &table);
        let mut output_bias = pack.values("output.bias")?;
        output_bias.resize(vocab, 0.0);
        let output_bias = pack.put(Element::F32, &output_bias);
        let (mut keys, mut keys_bias) = (Vec::new(), Vec::new());
        for layer in 0..shape.decoder_layers {
            keys.extend(pack.values(&format!("decoder.layers.{layer}.cross.key_value.weight"))?);
            keys_bias.extend(pack.values(&format!("decoder.layers.{layer}.cross.key_value.bias"))?);
        }
        let encoder = |i| format!("encoder.layers.{i}");
        let decoder = |i| format!("decoder.layers.{i}");
        let weights = Self {
            embedding,
            encoder_positions: pack.f32("encoder.positions.weight")?,
            decoder_positions: pack.f32("decoder.positions.weight")?,
            encoder: (0..shape.encoder_layers)
                .map(|i| {
                    Ok((pack.self_attention(&encoder(i), shape)?, pack.feed_forward(&encoder(i), shape)?))
                })
                .collect::<Result<_>>()?,
            encoder_norm: pack.norm("encoder.norm")?,
            length: match shape.length_classes {
                0 => None,
                outputs => Some(Linear {
                    weight: pack.f32("length.weight")?,
                    bias: pack.f32("length.bias")?,
                    inputs: d,
                    outputs,
                }),
            },
            keys_values: Linear {
                weight: pack.put(element, &keys),
                bias: pack.put(element, &keys_bias),
                inputs: d,
                outputs: 2 * d * shape.decoder_layers,
            },
            decoder: (0..shape.decoder_layers)
                .map(|i| {
                    let (attention, cross) =
                        (pack.self_attention(&decoder(i), shape)?, pack.cross_attention(&decoder(i), shape)?);
                    Ok((attention, cross, pack.feed_forward(&decoder(i), shape)?))
                })
                .collect::<Result<_>>()?,
            decoder_norm: pack.norm("decoder.norm")?,
            output: Linear { weight: embedding, bias: output_bias, inputs: d, outputs: vocab },
            _memory: device.allocate(pack.bytes.len())?,
            base: 0,
            bytes: pack.bytes.len(),
        };
        let base = device.address(&weights._memory);
        device.upload(&pack.bytes, base)?;
        Ok(Self { base, ..weights })
    }

    pub(super) fn at(&self, offset: u64) -> Address {
        self.base + offset
    }
}

/// Matrix products need a multiple of 8 outputs.
pub(super) fn padded(vocab: usize) -> usize {
    vocab.next_multiple_of(8)
}

/// Appends tensors to one block of memory.
struct Packer<'a> {
    tensors: &'a HashMap<String, Tensor>,
    element: Element,
    bytes: Vec<u8>,
}

impl Packer<'_> {
    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor =
            self.tensors.get(name).ok_or_else(|| Error::Model(format!("tensor {name:?} is missing")))?;
        Ok(with_values(tensor, <[f32]>::to_vec)?)
    }

    /// Appends values and returns their offset.
    fn put(&mut self, element: Element, values: &[f32]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let offset = self.bytes.len() as u64;
        self.bytes.extend(element.encode(values));
        offset
    }

    fn f32(&mut self, name: &str) -> Result<u64> {
        let values = self.values(name)?;
        Ok(self.put(Element::F32, &values))
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        Ok(Norm { gain: self.f32(&format!("{name}.weight"))?, bias: self.f32(&format!("{name}.bias"))? })
    }

    /// The bias has the type `bias`: the element type, or f32 if the result is added to the f32 residual stream.
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: Element) -> Result<Linear> {
        let (weight, of_bias) =
            (self.values(&format!("{name}.weight"))?, self.values(&format!("{name}.bias"))?);
        Ok(Linear {
            weight: self.put(self.element, &weight),
            bias: self.put(bias, &of_bias),
            inputs,
            outputs,
        })
    }

    fn self_attention(&mut self, layer: &str, shape: &Shape) -> Result<SelfAttention> {
        let d = shape.d_model;
        Ok(SelfAttention {
            norm: self.norm(&format!("{layer}.attention_norm"))?,
            qkv: self.linear(&format!("{layer}.attention.qkv"), d, 3 * d, self.element)?,
            output: self.linear(&format!("{layer}.attention.output"), d, d, Element::F32)?,
        })
    }

    fn cross_attention(&mut self, layer: &str, shape: &Shape) -> Result<CrossAttention> {
        let d = shape.d_model;
        Ok(CrossAttention {
            norm: self.norm(&format!("{layer}.cross_norm"))?,
            query: self.linear(&format!("{layer}.cross.query"), d, d, self.element)?,
            output: self.linear(&format!("{layer}.cross.output"), d, d, Element::F32)?,
        })
    }

    fn feed_forward(&mut self, layer: &str, shape: &Shape) -> Result<FeedForward> {
        let (d, ffn) = (shape.d_model, shape.ffn);
        Ok(FeedForward {
            norm: self.norm(&format!("{layer}.feed_forward_norm"))?,
            inner: self.linear(&format!("{layer}.feed_forward.inner"), d, ffn, self.element)?,
            outer: self.linear(&format!("{layer}.feed_forward.outer"), ffn, d, Element::F32)?,
        })
    }
}
