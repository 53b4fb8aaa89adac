//! The CMLM loss: predict the masked tokens of the target, and the target's length.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::corpus::Pair;
use super::masking::Masked;
use crate::model::{Network, Padded};
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::{Error, Result};

/// One micro-batch as tensors.
pub struct Batch {
    source: Padded,
    canvas: Padded,
    /// Masked places, as flat indices into `[rows, target]`.
    places: Vec<u32>,
    /// The token that belongs to each place.
    gold: Arc<[u32]>,
    /// The length class of each row.
    classes: Arc<[u32]>,
    /// Target tokens, bos and eos included.
    pub target_tokens: usize,
}

impl Batch {
    /// Puts masked pairs together. `length_classes` is the width of the network's length head.
    pub fn new(
        pairs: &[&Pair],
        masked: &[Masked],
        length_classes: usize,
        specials: &Specials,
        device: &Device,
    ) -> Result<Self> {
        let source = Padded::new(pairs.iter().map(|p| p.source.as_slice()), specials.pad, device)?;
        let canvas = Padded::new(masked.iter().map(|m| m.canvas.as_slice()), specials.pad, device)?;
        let len = canvas.ids.dim(1)? as u32;
        let places = masked
            .iter()
            .zip(0u32..)
            .flat_map(|(m, row)| m.positions.iter().map(move |p| row * len + p))
            .collect();
        Ok(Self {
            source,
            canvas,
            places,
            gold: masked.iter().flat_map(|m| m.gold.iter().copied()).collect(),
            classes: pairs
                .iter()
                .map(|p| length_class(p.source.len(), p.target.len(), length_classes))
                .collect(),
            target_tokens: pairs.iter().map(|p| p.target.len()).sum(),
        })
    }

    /// How many tokens the loss is a mean of: the weight of this micro-batch among others.
    pub fn masked_tokens(&self) -> usize {
        self.places.len()
    }
}

/// The class of a target length: `target - source + classes / 2`, clamped; both lengths with bos and eos.
pub fn length_class(source: usize, target: usize, classes: usize) -> u32 {
    (target + classes / 2).saturating_sub(source).min(classes - 1) as u32
}

/// The parts of a loss, as scalars on the tape.
pub struct Loss {
    /// Label-smoothed cross entropy, mean over masked tokens, in nats.
    pub tokens: Tensor,
    /// Cross entropy of the length class, mean over sentences, in nats.
    pub length: Tensor,
}

impl Loss {
    /// Ghazvininejad et al. 2019: masked tokens only, vocabulary product only at their places.
    pub fn cmlm(network: &Network, batch: &Batch, smoothing: f32, mode: &Mode) -> Result<Self> {
        let states = network.encode(&batch.source, mode)?;
        let length = network.length_logits(&states, &batch.source.lengths, mode)?;
        let length = ops::cross_entropy(&length, &batch.classes, 0.0, 0)?;
        let memory = network.memory(&states, &batch.source.lengths, mode)?;
        let decoded = network.decode(&batch.canvas, &memory, mode)?;
        let logits = network.logits(&decoded, batch.places.clone(), mode)?;
        let tokens = ops::cross_entropy(&logits, &batch.gold, smoothing, network.forbidden())?;
        Ok(Self { tokens, length })
    }

    /// `tokens + weight · length`
    pub fn total(&self, length_weight: f64) -> Result<Tensor> {
        (&self.tokens + (&self.length * length_weight)?).map_err(Error::from)
    }
}
