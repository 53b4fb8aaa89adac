//! [`Translator`] for the f32 network. Rows are padded to one batch; only the wanted positions are predicted.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Encoded, Limits, Prediction, Row, Translator};
use crate::model::{Memory, Network, Padded, Refresh};
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::{Error, Result};

/// Keys and values of one source sentence, `[source, 2 · d]` for each decoder layer.
#[derive(Clone, Debug)]
pub struct SentenceMemory {
    layers: Vec<Tensor>,
    len: usize,
}

impl Translator for Network {
    type Memory = SentenceMemory;

    fn limits(&self) -> Limits {
        Limits::of(self.shape())
    }

    fn specials(&self) -> Specials {
        Network::specials(self)
    }

    fn refresh(&self) -> Refresh {
        self.shape().refresh
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<SentenceMemory>>> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let mode = Mode::inference();
        check_ids(sources.iter().copied(), self.shape().vocab)?;
        let batch = Padded::new(sources.iter().copied(), self.specials().pad, self.device())?;
        let states = Network::encode(self, &batch, &mode)?;
        let classes = self.length_log_probs(&states, &batch.lengths, &mode)?;
        let memory = self.memory(&states, &batch.lengths, &mode)?;
        let all = memory.layers()?;
        (0..sources.len())
            .map(|i| {
                let len = batch.lengths[i];
                let layers = all
                    .iter()
                    .map(|layer| layer.get(i)?.narrow(0, 0, len))
                    .collect::<candle_core::Result<_>>()?;
                let length_prediction = self.shape().predict_length(&classes[i], len);
                Ok(Encoded { memory: SentenceMemory { layers, len }, length_prediction })
            })
            .collect()
    }

    fn decode(&self, rows: &[Row<'_, SentenceMemory>]) -> Result<Vec<Vec<Prediction>>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mode = Mode::inference();
        check_ids(rows.iter().map(|r| r.canvas), self.shape().vocab)?;
        let canvas = Padded::new(rows.iter().map(|r| r.canvas), self.specials().pad, self.device())?;
        let lengths: Arc<[usize]> = rows.iter().map(|r| r.memory.len).collect();
        let layers = (0..self.shape().decoder_layers)
            .map(|layer| ops::pad_stack(rows.iter().map(|r| &r.memory.layers[layer])))
            .collect::<candle_core::Result<_>>()?;
        let states = Network::decode(self, &canvas, &Memory::of_layers(layers, lengths), &mode)?;
        let width = canvas.ids.dim(1)?;
        // Rows that want one token are computed apart from those that want several, so that no row changes the result
        // of another.
        let (mut places, mut top_k_places) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            if row.wanted.iter().any(|&p| p >= row.canvas.len()) {
                return Err(Error::Model("a prediction is wanted outside the canvas".into()));
            }
            let places = if row.top_k { &mut top_k_places } else { &mut places };
            places.extend(row.wanted.iter().map(|&p| (i * width + p) as u32));
        }
        let (mut best, mut top) = (Vec::new(), Vec::new());
        if !places.is_empty() {
            best = self.best_tokens(&states, places, &mode)?;
        }
        if !top_k_places.is_empty() {
            top = self.top_tokens(&states, top_k_places, &mode)?;
        }
        let (mut best, mut top) = (best.into_iter(), top.into_iter().flatten());
        let predictions = rows.iter().map(|row| {
            let from: &mut dyn Iterator<Item = (u32, f32)> = if row.top_k { &mut top } else { &mut best };
            from.take(row.prediction_count()).map(Prediction::from).collect()
        });
        Ok(predictions.collect())
    }
}

/// An id outside the vocabulary would otherwise be an index error deep inside an operation.
fn check_ids<'a>(rows: impl Iterator<Item = &'a [u32]>, vocab: usize) -> Result<()> {
    match rows.flatten().find(|&&id| id as usize >= vocab) {
        None => Ok(()),
        Some(id) => Err(Error::Model(format!("token {id} is outside the vocabulary of {vocab}"))),
    }
}
