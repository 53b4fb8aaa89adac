//! What a run minimises: an [`Objective`] turns pairs and a network into losses, and the training loop knows nothing more of it.
//! There is one file for each loss; this one has the batch and the pass that they share.

mod ar;
mod cmlm;
mod cmlmc;
mod dims;
mod imputer;

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::model::{Memory, Network, Padded, Shape};
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::train::data::corpus::Pair;
use crate::train::data::masking::Masked;
use crate::train::rng::Rng;

pub use ar::Autoregressive;
pub use cmlm::Cmlm;
pub use cmlmc::Cmlmc;
pub use dims::{Dims, Teacher};
pub use imputer::{Imputer, Spelling, all_symbols, best_paths};
use imputer::{best_paths_around, improbability, masked_symbols};

/// One micro-batch as tensors.
pub struct Batch {
    pub source: Padded,
    pub canvas: Padded,
    /// Masked places, row by row, as flat indices into `[rows, target]`.
    pub places: Vec<u32>,
    /// The token that belongs to each place.
    pub gold: Arc<[u32]>,
    /// The length class of each row.
    classes: Arc<[u32]>,
    /// Target tokens, bos and eos included.
    pub target_tokens: usize,
}

impl Batch {
    /// Puts masked pairs together, for a network of this shape.
    pub fn new(
        pairs: &[&Pair],
        masked: &[Masked],
        shape: &Shape,
        specials: &Specials,
        device: &Device,
    ) -> Result<Self> {
        let source = Padded::new(pairs.iter().map(|p| p.source.as_slice()), specials.pad, device)?;
        let canvas = Padded::new(masked.iter().map(|m| m.canvas.as_slice()), specials.pad, device)?;
        let places = flat(masked.iter().map(|m| m.positions.as_slice()), &canvas)?;
        Ok(Self {
            source,
            canvas,
            places,
            gold: masked.iter().flat_map(|m| m.gold.iter().copied()).collect(),
            classes: pairs
                .iter()
                .map(|p| shape.lengths.class(p.source.len(), p.target.len(), shape.length_classes))
                .collect(),
            target_tokens: pairs.iter().map(|p| p.target.len()).sum(),
        })
    }

    /// How many tokens the loss is a mean of: the weight of this micro-batch among others.
    pub fn masked_tokens(&self) -> usize {
        self.places.len()
    }
}

/// Positions of each row as flat indices into `[rows, len]`.
pub fn flat<'a>(positions: impl Iterator<Item = &'a [u32]>, rows: &Padded) -> Result<Vec<u32>> {
    let len = rows.ids.dim(1)? as u32;
    let of_row = |(row, own): (u32, &'a [u32])| own.iter().map(move |p| row * len + p);
    Ok((0u32..).zip(positions).flat_map(of_row).collect())
}

/// What a network answers to one batch, on the tape.
pub struct Pass {
    /// Last decoder states at the masked places: `[places, d]`
    pub hidden: Tensor,
    /// Cross entropy of the length class, mean over sentences, in nats; none without a length head.
    pub length_loss: Option<Tensor>,
}

impl Pass {
    /// Encoder, length head, one decoder pass over the whole canvas. The vocabulary product is left to the loss, which
    /// asks for it at masked places only.
    pub fn of(network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
        Self::by(Network::decode, network, batch, mode)
    }

    /// The same by an autoregressive decoder: each place sees the canvas up to itself.
    pub fn causal(network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
        Self::by(Network::decode_causal, network, batch, mode)
    }

    fn by(decode: Decode, network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
        let states = network.encode(&batch.source, mode)?;
        let lengths = network.length_logits(&states, &batch.source.lengths, mode)?;
        let length_loss = lengths.map(|l| ops::cross_entropy(&l, &batch.classes, 0.0, 0)).transpose()?;
        let memory = network.memory(&states, &batch.source.lengths, mode)?;
        let decoded = decode(network, &batch.canvas, &memory, mode)?;
        let hidden = network.select(&decoded, batch.places.clone())?;
        Ok(Self { hidden, length_loss })
    }
}

type Decode = fn(&Network, &Padded, &Memory, &Mode) -> candle_core::Result<Tensor>;

/// The losses of one micro-batch, as scalars on the tape.
pub struct Losses {
    /// What is minimised: the weighted sum of the others.
    pub total: Tensor,
    /// Of the tokens, mean over masked places, in nats: cross entropy, or divergence from a teacher.
    pub tokens: Tensor,
    /// Mean distance of hidden states to a teacher's, where there is one.
    pub hidden: Option<Tensor>,
    /// Of the length class, mean over sentences, in nats, where there is a length head.
    pub length: Option<Tensor>,
    /// The weight of this micro-batch among others.
    pub masked_tokens: usize,
    /// Bos and eos included, padding not.
    pub target_tokens: usize,
}

/// One micro-batch of a run, as the loop hands it out. Chance comes from here alone.
pub struct Step<'a> {
    pub student: &'a Network,
    pub pairs: &'a [&'a Pair],
    /// Draws of this micro-batch.
    pub masks: Rng,
    /// Seed of this micro-batch's dropout.
    pub dropout: u64,
}

/// What a run minimises. The same step over the same weights must give the same losses, bit for bit:
/// that is why a run resumes exactly.
pub trait Objective {
    fn losses(&self, step: Step<'_>) -> Result<Losses>;
}

impl Objective for Box<dyn Objective> {
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        self.as_ref().losses(step)
    }
}

/// `loss + weight · length`
pub fn with_length(loss: &Tensor, length: Option<&Tensor>, weight: f64) -> Result<Tensor> {
    Ok(length.map_or(Ok(loss.clone()), |length| loss + (length * weight)?)?)
}

impl Losses {
    /// `tokens + length_weight · length` of one pass over a batch.
    pub fn of(tokens: Tensor, length: Option<Tensor>, batch: &Batch, length_weight: f64) -> Result<Self> {
        Ok(Self {
            total: with_length(&tokens, length.as_ref(), length_weight)?,
            tokens,
            hidden: None,
            length,
            masked_tokens: batch.masked_tokens(),
            target_tokens: batch.target_tokens,
        })
    }
}
