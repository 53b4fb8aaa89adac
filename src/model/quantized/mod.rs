//! The same network as [`super::Network`], for inference on CPUs with products in eight bits.
//!
//! A pass goes over *packed* rows: the tokens of all sentences one after the other, no padding.
//! Everything but the look at other tokens (attention) belongs to one row alone. `block` decides by the
//! load how threads share a pass:
//!
//! * many sentences: each thread takes small groups of them through the whole pass, in buffers that fit
//!   its caches, and meets the others at the end only;
//! * few: the pass is a few phases, one for each self-attention; within a phase each block of rows goes
//!   through all operations between two of them on one thread. So one sentence alone has all cores.
//!
//! `encode` and `predict` are the two passes. What need not be computed is not: after the last
//! self-attention only wanted rows go on, and on a canvas of nothing but masks the decoder's beginning is
//! the same for every source (`first`); and with a shortlist only a sentence's own candidates are compared
//! with its states (`candidates`).
//!
//! Neither groups nor blocks nor neighbours change a row's bits (see [`crate::nn::int8`]).

mod block;
mod candidates;
mod encode;
mod first;
mod input;
mod layers;
mod predict;
mod scratch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use self::candidates::Narrowing;
use self::first::Beginnings;
use self::input::Table;
use self::layers::{DecoderLayer, EncoderLayer, Weights};
use self::scratch::Buffers;
use super::{NormPlace, Shape, Spec};
use crate::nn::int8::{Input, Norm, PackedLinear};
use crate::text::Specials;
use crate::{Error, Result};

pub use self::layers::SentenceKeys;
pub use self::predict::Canvas;

/// A network in eight bits. Norms, attention, embeddings and the length head stay in f32.
#[derive(Debug)]
pub struct QuantizedNetwork {
    shape: Shape,
    encoder_input: Table,
    decoder_input: Table,
    encoder: Vec<EncoderLayer>,
    /// After the last layer, where the layers have their norms in front.
    encoder_norm: Option<Norm>,
    /// `[d, classes]`, transposed: the length head is small and its errors cost whole words. Empty without one.
    length: Vec<f32>,
    length_bias: Vec<f32>,
    /// All decoder layers' keys and values of encoder states.
    keys_values: PackedLinear,
    decoder: Vec<DecoderLayer>,
    decoder_norm: Option<Norm>,
    output: PackedLinear,
    narrowing: Option<Narrowing>,
    beginnings: Beginnings,
    /// Kept from pass to pass; a pass takes one out while it runs.
    buffers: Mutex<Vec<Buffers>>,
}

impl QuantizedNetwork {
    /// Quantises the tensors that [`super::Network`] takes, f32 on the CPU, by the same names.
    ///
    /// # Errors
    /// [`Error::Config`] for a shape that no network has, [`Error::Model`] for a tensor that is missing
    /// or of another shape.
    pub fn new(shape: &Shape, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let shapes = tensors.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
        Spec::check(shape, &shapes).map_err(Error::Model)?;
        let weights = Weights::new(tensors);
        let d = shape.d_model;
        let embedding: Arc<[f32]> = weights.values("embedding.weight")?.into();
        let last_norm = |name| (shape.norm == NormPlace::Pre).then(|| weights.norm(name)).transpose();
        let classes = shape.length_classes;
        let of_head = |name: &str| if classes > 0 { weights.values(name) } else { Ok(Vec::new()) };
        let length = of_head("length.weight")?;
        Ok(Self {
            shape: shape.clone(),
            output: PackedLinear::new(&embedding, &weights.values("output.bias")?, d, Input::Signed)?,
            encoder_input: Table::new(&weights, "encoder", &embedding, shape)?,
            decoder_input: Table::new(&weights, "decoder", &embedding, shape)?,
            encoder: (0..shape.encoder_layers)
                .map(|i| EncoderLayer::new(&weights, &format!("encoder.layers.{i}"), shape))
                .collect::<Result<_>>()?,
            encoder_norm: last_norm("encoder.norm")?,
            length: (0..d * classes).map(|i| length[i % classes * d + i / classes]).collect(),
            length_bias: of_head("length.bias")?,
            keys_values: weights.keys_values(shape)?,
            decoder: (0..shape.decoder_layers)
                .map(|i| DecoderLayer::new(&weights, &format!("decoder.layers.{i}"), shape))
                .collect::<Result<_>>()?,
            decoder_norm: last_norm("decoder.norm")?,
            narrowing: None,
            beginnings: Beginnings::default(),
            buffers: Mutex::default(),
        })
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn specials(&self) -> Specials {
        Specials::default()
    }

    /// The number of ids, from 0 up, that no prediction may be: all specials, but for an Imputer's blank.
    pub fn forbidden(&self) -> usize {
        self.shape.forbidden()
    }
}

#[cfg(test)]
mod tests;
