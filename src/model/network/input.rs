//! The input of the first layer: token and position embeddings of the encoder or the decoder.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::model::{Positions, Shape};
use crate::nn::{Activation, Embedding, Linear, Mode};

#[derive(Clone, Debug)]
pub(super) struct Input {
    positions: Embedding,
    /// Factor of the sum of both.
    scale: f64,
    /// `[2 · d] -> [d]` for embeddings that are concatenated instead of added.
    join: Option<Linear>,
}

impl Input {
    pub(super) fn load(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        let d = shape.d_model;
        let join = || Linear::load(2 * d, d, Activation::None, vb.pp("join"));
        Ok(Self {
            positions: Embedding::load(shape.max_positions, d, vb.pp("positions"))?,
            scale: if shape.positions == Positions::Scaled { (d as f64).sqrt() } else { 1.0 },
            join: (shape.positions == Positions::Concat).then(join).transpose()?,
        })
    }

    /// Embeds `ids [rows, len]`, which start at position 0, with dropout, in one operation; `None` if it cannot
    /// be fused.
    pub(super) fn fused(&self, table: &Embedding, ids: &Tensor, mode: &Mode) -> Result<Option<Tensor>> {
        if self.join.is_some() {
            Ok(None)
        } else {
            table.with_positions(ids, &self.positions, self.scale, mode)
        }
    }

    /// `tokens` is `[rows, len, d]` and starts at position `start`.
    pub(super) fn forward(&self, tokens: &Tensor, start: usize, mode: &Mode) -> Result<Tensor> {
        let places = self.positions.range(start, tokens.dim(1)?)?;
        let Some(join) = &self.join else {
            let sum = tokens.broadcast_add(&places)?;
            return if self.scale == 1.0 { Ok(sum) } else { sum * self.scale };
        };
        let both = Tensor::cat(&[tokens, &places.broadcast_as(tokens.shape())?.contiguous()?], 2)?;
        join.forward(&both, mode)
    }
}
