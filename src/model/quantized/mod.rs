//! The network of [`super::Network`] for inference on CPUs, with 8-bit products.
//!
//! A pass computes *packed* rows: the tokens of all sentences one after the other, without padding. Only attention
//! reads several rows; everything else is computed for each row separately. `block` decides how threads share a pass:
//!
//! * many sentences: each thread takes a small group of sentences through the whole pass, in buffers that fit its
//!   caches, and threads meet only at the end;
//! * few sentences: the pass has a few phases, one for each self-attention; within a phase each thread takes blocks
//!   of rows through all operations. So a single sentence uses all cores.
//!
//! `encode` and `predict` are the two kinds of pass. Unneeded work is skipped: after the last self-attention only the
//! wanted rows continue; for a canvas of masks the start of the decoder is cached (`first`); and with a shortlist
//! only a sentence's candidates are scored (`candidates`).
//!
//! The result for a row does not depend on groups, blocks or other rows, bit for bit (see [`crate::nn::int8`]).

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

use self::candidates::ShortlistWeights;
use self::first::FirstLayerCache;
use self::input::Table;
use self::layers::{DecoderLayer, EncoderLayer, Weights};
use self::scratch::Buffers;
use super::{NormPlace, Shape, Spec};
use crate::nn::int8::{Input, Norm, PackedLinear};
use crate::text::Specials;
use crate::{Error, Result};

pub use self::layers::SentenceKeys;
pub use self::predict::QuantizedCanvas;

/// An 8-bit network. Norms, attention, embeddings and the length head are f32.
#[derive(Debug)]
pub struct QuantizedNetwork {
    shape: Shape,
    encoder_input: Table,
    decoder_input: Table,
    encoder: Vec<EncoderLayer>,
    /// Only if the layers have their norms first ([`NormPlace::Pre`]).
    encoder_norm: Option<Norm>,
    /// `[d, classes]`, transposed and in f32: the length head is small, and a wrong length costs whole words. Empty
    /// without one.
    length: Vec<f32>,
    length_bias: Vec<f32>,
    /// Computes keys and values of all decoder layers from encoder states.
    keys_values: PackedLinear,
    decoder: Vec<DecoderLayer>,
    decoder_norm: Option<Norm>,
    output: PackedLinear,
    shortlist_weights: Option<ShortlistWeights>,
    first_layer_cache: FirstLayerCache,
    /// Reused between passes; a running pass takes one out.
    buffers: Mutex<Vec<Buffers>>,
}

impl QuantizedNetwork {
    /// Quantizes the tensors of a [`super::Network`] (f32, on the CPU).
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid shape, [`Error::Model`] for a tensor that is missing or has another shape.
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
            shortlist_weights: None,
            first_layer_cache: FirstLayerCache::default(),
            buffers: Mutex::default(),
        })
    }

    /// Whether the tensor `name` with these dimensions is used only as a matrix in 8 bits, with a scale for each row
    /// ([`RowScale`](crate::nn::int8::RowScale)). Embeddings, positions and the length head are also or only used in
    /// f32.
    pub fn rounds(name: &str, dims: &[usize]) -> bool {
        dims.len() == 2 && name.contains(".layers.")
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn specials(&self) -> Specials {
        Specials::default()
    }

    /// Ids below this one are never predicted: the special tokens except an Imputer's blank.
    pub fn forbidden(&self) -> usize {
        self.shape.forbidden()
    }
}

#[cfg(test)]
mod tests;
