//! The input of the first layer: token and position embeddings of the encoder or the decoder.

use std::sync::Arc;

use super::layers::Weights;
use crate::Result;
use crate::model::{Positions, Shape};
use crate::nn::gemm::{Precision, gemm};

/// A row for each token and one for each position: `scale · (token + place)`, in f32.
#[derive(Debug)]
pub(super) struct Table {
    /// `[vocab, d]`
    tokens: Arc<[f32]>,
    /// `[max_positions, d]`
    places: Vec<f32>,
    scale: f32,
}

impl Table {
    /// `side` is `encoder` or `decoder`; `embedding [vocab, d]` is the network's.
    pub(super) fn new(weights: &Weights, side: &str, embedding: &Arc<[f32]>, shape: &Shape) -> Result<Self> {
        let d = shape.d_model;
        let places = weights.values(&format!("{side}.positions.weight"))?;
        let plain = |scale| Self { tokens: embedding.clone(), places: places.clone(), scale };
        Ok(match shape.positions {
            Positions::Scaled => plain((d as f32).sqrt()),
            Positions::Unscaled => plain(1.0),
            // W · [E; P] + b, precomputed in halves: W₁ · E and W₂ · P + b.
            Positions::Concat => {
                let weight = weights.values(&format!("{side}.join.weight"))?;
                let bias = weights.values(&format!("{side}.join.bias"))?;
                let half = |rows: &[f32], start: usize| {
                    let own: Vec<f32> =
                        weight.chunks_exact(2 * d).flat_map(|row| &row[start..start + d]).copied().collect();
                    let mut joined = vec![0.0; rows.len()];
                    let count = rows.len() / d;
                    gemm(Precision::F32, count, d, d, rows, false, &own, true, &mut joined, false);
                    joined
                };
                let mut places = half(&places, d);
                for (value, bias) in places.iter_mut().zip(bias.iter().cycle()) {
                    *value += bias;
                }
                Self { tokens: half(embedding, 0).into(), places, scale: 1.0 }
            }
        })
    }

    /// Writes the vector of a token at a position to `x [d]`.
    pub(super) fn write(&self, token: u32, position: usize, x: &mut [f32]) {
        let d = x.len();
        let (token, place) = (&self.tokens[token as usize * d..][..d], &self.places[position * d..][..d]);
        for (x, (e, p)) in x.iter_mut().zip(token.iter().zip(place)) {
            *x = (e + p) * self.scale;
        }
    }
}
