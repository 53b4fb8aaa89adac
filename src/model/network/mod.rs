//! The CMLM (Ghazvininejad et al. 2019, arXiv 1904.09324): a transformer encoder with a length head, and a decoder
//! that attends to the whole canvas. Source embedding, target embedding and output share one matrix. An
//! autoregressive model has the same weights and a causal decoder; an Imputer has no length head. [`Shape`] describes
//! all other differences.

mod autoregressive;
mod input;
mod layers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use self::input::Input;
use self::layers::{DecoderLayer, EncoderLayer};
use super::{Backend, DecoderAttention, NormPlace, Shape, Spec, TOP_K};
use crate::nn::ops::AttentionMask;
use crate::nn::{Activation, Embedding, LayerNorm, Linear, Mode, Source, chain, ops};
use crate::text::Specials;

pub use autoregressive::Past;

/// A batch of sentences: ids padded to one length, and the real lengths.
#[derive(Clone, Debug)]
pub struct Padded {
    /// `[rows, len]`, u32
    pub ids: Tensor,
    pub lengths: Arc<[usize]>,
}

impl Padded {
    /// Pads all rows to the longest one.
    pub fn new<'a>(
        rows: impl ExactSizeIterator<Item = &'a [u32]>,
        pad: u32,
        device: &Device,
    ) -> Result<Self> {
        let rows: Vec<&[u32]> = rows.collect();
        let lengths: Arc<[usize]> = rows.iter().map(|r| r.len()).collect();
        let len = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * len);
        for row in &rows {
            ids.extend_from_slice(row);
            ids.resize(ids.len() + len - row.len(), pad);
        }
        Ok(Self { ids: Tensor::from_vec(ids, (rows.len(), len), device)?, lengths })
    }
}

/// What the decoder reads of the source.
#[derive(Clone, Debug)]
pub struct Memory {
    content: Content,
    pub lengths: Arc<[usize]>,
}

#[derive(Clone, Debug)]
enum Content {
    /// Keys and values for each decoder layer: `[rows, source, 2 · d]`.
    KeysValues(Vec<Tensor>),
    /// In training, if the layers are fused: the encoder's states, of which the layers make keys and values themselves.
    States(Tensor),
}

impl Memory {
    /// The memory of keys and values for each decoder layer, `[rows, source, 2 · d]`.
    pub fn of_layers(layers: Vec<Tensor>, lengths: Arc<[usize]>) -> Self {
        Self { content: Content::KeysValues(layers), lengths }
    }

    /// Keys and values for each decoder layer.
    ///
    /// # Errors
    /// For the memory of a pass with gradients, which may have none.
    pub fn layers(&self) -> Result<&[Tensor]> {
        match &self.content {
            Content::KeysValues(layers) => Ok(layers),
            Content::States(_) => {
                candle_core::bail!("a memory of a pass with gradients has no keys and values")
            }
        }
    }

    /// The same values, through which no gradient flows to the encoder.
    pub fn detached(&self) -> Self {
        let content = match &self.content {
            Content::KeysValues(layers) => Content::KeysValues(layers.iter().map(Tensor::detach).collect()),
            Content::States(states) => Content::States(states.detach()),
        };
        Self { content, lengths: self.lengths.clone() }
    }

    /// Applies `change` to all tensors.
    fn map(&mut self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        self.content = match &self.content {
            Content::KeysValues(layers) => {
                Content::KeysValues(layers.iter().map(change).collect::<Result<_>>()?)
            }
            Content::States(states) => Content::States(change(states)?),
        };
        Ok(())
    }

    /// What each decoder layer reads.
    fn sources(&self, layers: usize) -> Vec<Source<'_>> {
        match &self.content {
            Content::KeysValues(layers) => layers.iter().map(Source::KeysValues).collect(),
            Content::States(states) => vec![Source::Memory(states); layers],
        }
    }
}

/// A network with its weights. Cheap to clone: tensors are shared.
#[derive(Clone, Debug)]
pub struct Network {
    shape: Shape,
    device: Device,
    embedding: Embedding,
    encoder_input: Input,
    decoder_input: Input,
    encoder: Vec<EncoderLayer>,
    /// Only if the layers have their norms first ([`NormPlace::Pre`]).
    encoder_norm: Option<LayerNorm>,
    /// `None` for an Imputer.
    length: Option<Linear>,
    decoder: Vec<DecoderLayer>,
    decoder_norm: Option<LayerNorm>,
    output: Linear,
}

impl Network {
    /// Takes every tensor from `vb`.
    pub fn load(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        let d = shape.d_model;
        let embedding = Embedding::load(shape.vocab, d, vb.pp("embedding"))?;
        let bias = vb.get_with_hints(shape.vocab, "output.bias", Init::Const(0.0))?;
        let (encoder, decoder) = (vb.pp("encoder"), vb.pp("decoder"));
        let last_norm = |vb: &VarBuilder| {
            (shape.norm == NormPlace::Pre).then(|| LayerNorm::load(d, vb.pp("norm"))).transpose()
        };
        Ok(Self {
            shape: shape.clone(),
            device: vb.device().clone(),
            encoder_input: Input::load(shape, &encoder)?,
            decoder_input: Input::load(shape, &decoder)?,
            encoder: (0..shape.encoder_layers)
                .map(|i| EncoderLayer::load(shape, &encoder.pp("layers").pp(i)))
                .collect::<Result<_>>()?,
            encoder_norm: last_norm(&encoder)?,
            length: (shape.length_classes > 0)
                .then(|| Linear::load(d, shape.length_classes, Activation::None, vb.pp("length")))
                .transpose()?,
            decoder: (0..shape.decoder_layers)
                .map(|i| DecoderLayer::load(shape, &decoder.pp("layers").pp(i)))
                .collect::<Result<_>>()?,
            decoder_norm: last_norm(&decoder)?,
            output: Linear::tied(embedding.table().clone(), bias),
            embedding,
        })
    }

    /// A network with seeded random weights, for benchmarks and tests.
    pub fn random(shape: &Shape, seed: u64, backend: &Backend) -> crate::Result<Self> {
        let tensors = Spec::initial(shape, seed, backend.device())?;
        let vb = VarBuilder::from_tensors(tensors, candle_core::DType::F32, backend.device());
        Ok(Self::load(shape, &vb)?)
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn specials(&self) -> Specials {
        Specials::default()
    }

    /// Ids below this one are never predicted: the special tokens except an Imputer's blank.
    pub fn forbidden(&self) -> usize {
        self.shape.forbidden()
    }

    /// The input of the first layer for `ids [rows, len]`, which start at position `start`.
    fn embed(&self, ids: &Tensor, start: usize, input: &Input, mode: &Mode) -> Result<Tensor> {
        let len = ids.dim(1)?;
        if start + len > self.shape.max_positions {
            candle_core::bail!(
                "{} tokens are more than the {} positions",
                start + len,
                self.shape.max_positions
            );
        }
        if start == 0
            && let Some(x) = input.fused(&self.embedding, ids, mode)?
        {
            return Ok(x);
        }
        mode.dropout(&input.forward(&self.embedding.forward(ids)?, start, mode)?)
    }

    /// Encodes sentences: states `[rows, source, d]`.
    pub fn encode(&self, source: &Padded, mode: &Mode) -> Result<Tensor> {
        let mut x = self.embed(&source.ids, 0, &self.encoder_input, mode)?;
        let sublayers = self.encoder.iter().map(|layer| layer.sublayers(&x, &source.lengths, mode));
        // All layers have the same shape, so either all of them can be fused or none.
        match sublayers.collect::<Result<Option<Vec<_>>>>()? {
            Some(sublayers) if !sublayers.is_empty() => {
                x = chain(&x, None, sublayers.into_iter().flatten().collect())?;
            }
            _ => {
                for layer in &self.encoder {
                    x = layer.forward(&x, &source.lengths, mode)?;
                }
            }
        }
        normed(&self.encoder_norm, x)
    }

    /// Logits of the length classes, from the mean state over the real positions: `[rows, source, d] -> [rows,
    /// classes]`. `None` without a length head.
    pub fn length_logits(
        &self,
        states: &Tensor,
        lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Option<Tensor>> {
        let Some(head) = &self.length else { return Ok(None) };
        let mean = ops::mean_of_real(states, lengths)?;
        head.forward(&mean, mode).map(Some)
    }

    /// Log-probabilities of the length classes of each sentence; empty without a length head.
    pub fn length_log_probs(
        &self,
        states: &Tensor,
        lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Vec<Vec<f32>>> {
        match self.length_logits(states, lengths, mode)? {
            Some(logits) => ops::log_softmax(&logits),
            None => Ok(vec![Vec::new(); lengths.len()]),
        }
    }

    /// Computes what every decoder pass over these sources reads.
    pub fn memory(&self, states: &Tensor, lengths: &Arc<[usize]>, mode: &Mode) -> Result<Memory> {
        if states.track_op() && self.decoder.iter().all(|layer| layer.fuses(states, mode)) {
            return Ok(Memory { content: Content::States(states.clone()), lengths: lengths.clone() });
        }
        let layers =
            self.decoder.iter().map(|layer| layer.keys_values(states, mode)).collect::<Result<_>>()?;
        Ok(Memory::of_layers(layers, lengths.clone()))
    }

    /// Decoder states of all canvas positions: `[rows, target, d]`.
    pub fn decode(&self, canvas: &Padded, memory: &Memory, mode: &Mode) -> Result<Tensor> {
        let mask = match self.shape.decoder_attention {
            DecoderAttention::Whole => AttentionMask::Whole,
            DecoderAttention::WholeThenCausal => AttentionMask::Causal,
        };
        self.decode_with(mask, canvas, memory, mode)
    }

    pub(super) fn decode_with(
        &self,
        mask: AttentionMask,
        canvas: &Padded,
        memory: &Memory,
        mode: &Mode,
    ) -> Result<Tensor> {
        let mut x = self.embed(&canvas.ids, 0, &self.decoder_input, mode)?;
        let sources = memory.sources(self.decoder.len());
        let layers = || self.decoder.iter().zip(&sources);
        if layers().all(|(layer, &source)| layer.fuses(&x, mode) && !source.needs_composed_layers()) {
            let sublayers = layers().map(|(layer, &source)| {
                layer.sublayers(&x, &canvas.lengths, mask, (source, &memory.lengths), mode)
            });
            let Some(sublayers) = sublayers.collect::<Result<Option<Vec<_>>>>()? else {
                candle_core::bail!("a decoder layer cannot be fused")
            };
            let sublayers = sublayers.into_iter().flatten().collect();
            let states = match &memory.content {
                Content::States(states) => Some(states),
                Content::KeysValues(_) => None,
            };
            return normed(&self.decoder_norm, chain(&x, states, sublayers)?);
        }
        for (layer, keys_values) in self.decoder.iter().zip(memory.layers()?) {
            x = layer.forward(&x, &canvas.lengths, mask, (keys_values, &memory.lengths), mode)?;
        }
        normed(&self.decoder_norm, x)
    }

    /// Selects states `[places, d]` from `states [rows, target, d]` by their flat indices `row · target + position`.
    pub fn select(&self, states: &Tensor, places: Vec<u32>) -> Result<Tensor> {
        ops::select(&states.flatten_to(1)?, places)
    }

    /// Logits over the vocabulary: `[places, d] -> [places, vocab]`.
    pub fn logits(&self, chosen: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.output.forward(chosen, mode)
    }

    /// The output layer for a loss, over the states `chosen [places, d]`. Ids below `forbidden` have no probability.
    pub fn output<'a>(&'a self, chosen: &'a Tensor, forbidden: usize, mode: &Mode) -> ops::Output<'a> {
        self.output.output(chosen, forbidden, mode)
    }

    /// The best token and its log-probability at flat indices `places`.
    pub fn best_tokens(&self, states: &Tensor, places: Vec<u32>, mode: &Mode) -> Result<Vec<(u32, f32)>> {
        self.output(&self.select(states, places)?, self.forbidden(), mode).best_tokens()
    }

    /// The [`TOP_K`] best tokens at flat indices `places`, best first, with their log-probabilities. A smaller
    /// vocabulary is filled up with minus infinity.
    pub fn top_tokens(
        &self,
        states: &Tensor,
        places: Vec<u32>,
        mode: &Mode,
    ) -> Result<Vec<[(u32, f32); TOP_K]>> {
        let (logits, first) = (self.logits(&self.select(states, places)?, mode)?, self.forbidden());
        let top = ops::top_tokens(&logits, first as u32, first + 1, TOP_K)?;
        let filled = |top: Vec<(u32, f32)>| {
            std::array::from_fn(|i| top.get(i).copied().unwrap_or((first as u32, f32::NEG_INFINITY)))
        };
        Ok(top.into_iter().map(filled).collect())
    }
}

fn normed(norm: &Option<LayerNorm>, x: Tensor) -> Result<Tensor> {
    norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
}
