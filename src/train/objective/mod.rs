//! The losses of training. An [`Objective`] computes them from pairs and a network, and the training loop knows nothing
//! else about it. There is one file for each loss; this file has the batch and the pass that they share.

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
use imputer::{best_paths_around, ctc_loss, masked_symbols};

/// One micro-batch as tensors.
pub struct Batch {
    pub source: Padded,
    pub canvas: Padded,
    /// Masked positions, row by row, as flat indices into `[rows, target]`.
    pub places: Vec<u32>,
    /// The correct token at each masked position.
    pub gold: Arc<[u32]>,
    /// The length class of each row.
    classes: Arc<[u32]>,
    /// Number of target tokens, including bos and eos.
    pub target_tokens: usize,
}

impl Batch {
    /// Builds the batch of masked pairs, for a network of this shape.
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

    /// Number of tokens that the loss is a mean over; the weight of this micro-batch.
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

/// The output of a network for one batch, with gradients.
pub struct TrainingPass {
    /// Last decoder states at the masked positions, `[positions, d]`.
    pub hidden: Tensor,
    /// Cross entropy of the length class, mean over sentences, in nats; `None` without a length head.
    pub length_loss: Option<Tensor>,
}

impl TrainingPass {
    /// Runs the encoder, the length head and one decoder pass over the whole canvas. It keeps only masked positions, so
    /// that the loss computes scores over the vocabulary only there.
    pub fn of(network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
        Self::run(Network::decode, network, batch, mode)
    }

    /// The same for an autoregressive decoder: each position sees the canvas up to itself.
    pub fn causal(network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
        Self::run(Network::decode_causal, network, batch, mode)
    }

    fn run(decode: Decode, network: &Network, batch: &Batch, mode: &Mode) -> Result<Self> {
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

/// The losses of one micro-batch, as scalars with gradients.
pub struct Losses {
    /// The weighted sum of the other losses, which training minimizes.
    pub total: Tensor,
    /// Loss of the tokens, mean over masked positions, in nats: cross entropy, or divergence from a teacher.
    pub tokens: Tensor,
    /// Mean distance of hidden states from those of a teacher, if there is one.
    pub hidden: Option<Tensor>,
    /// Loss of the length class, mean over sentences, in nats, if there is a length head.
    pub length: Option<Tensor>,
    /// The weight of this micro-batch.
    pub masked_tokens: usize,
    /// Including bos and eos, without padding.
    pub target_tokens: usize,
}

/// One micro-batch of a run, with all its random numbers.
pub struct Step<'a> {
    pub student: &'a Network,
    pub pairs: &'a [&'a Pair],
    /// Random numbers for masking.
    pub masks: Rng,
    /// Seed of dropout.
    pub dropout: u64,
}

/// The loss of a run. The same step and weights must give bitwise the same losses, so that a resumed run continues
/// exactly.
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
