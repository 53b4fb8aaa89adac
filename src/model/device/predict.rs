//! The decoder pass.

use super::encode::floats;
use super::work::{Arrays, Batch, Inputs, VOCABULARY_ROWS, Work};
use super::{DeviceKeys, DeviceNetwork, PassKind, parts};
use crate::nn::device::{Device, Epilogue};
use crate::{Error, Result};

/// One row of a decoder pass.
#[derive(Debug)]
pub struct DeviceCanvas<'a, D: Device> {
    pub ids: &'a [u32],
    /// Indices into `ids` of the positions to predict, ascending.
    pub wanted: &'a [usize],
    pub keys: &'a DeviceKeys<D>,
}

impl<D: Device> DeviceNetwork<D> {
    /// Runs a decoder pass. Returns the best token and its log-probability for each wanted position, row after row.
    ///
    /// # Errors
    /// As [`Self::encode_sentences`], and for wanted positions that are outside the canvas or not ascending.
    pub fn predict(&self, canvases: &[DeviceCanvas<'_, D>]) -> Result<Vec<(u32, f32)>> {
        Ok(self.predict_top(canvases)?.into_iter().step_by(self.shape.top_k()).collect())
    }

    /// Like [`Self::predict`], but an Imputer returns the [`TOP_K`](crate::model::TOP_K) best tokens of each
    /// position, best first. Other networks return one.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn predict_top(&self, canvases: &[DeviceCanvas<'_, D>]) -> Result<Vec<(u32, f32)>> {
        for canvas in canvases {
            self.shape.check_row(canvas.ids)?;
            let ascending = canvas.wanted.is_sorted_by(|a, b| a < b);
            if !ascending || canvas.wanted.last().is_some_and(|&p| p >= canvas.ids.len()) {
                return Err(Error::Model("wanted positions must be ascending and inside the canvas".into()));
            }
        }
        let mut work = self.lock();
        let mut top = Vec::new();
        for part in parts(canvases.iter().map(|canvas| canvas.ids.len()), work.rows) {
            self.predict_part(&canvases[part], &mut work, &mut top)?;
        }
        Ok(top)
    }

    fn predict_part(
        &self,
        canvases: &[DeviceCanvas<'_, D>],
        work: &mut Work<D::Buffer>,
        top: &mut Vec<(u32, f32)>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        for canvas in canvases {
            let first = batch.rows();
            batch.push(canvas.ids);
            batch.wanted.extend(canvas.wanted.iter().map(|&place| (first + place) as u32));
            batch.keys.push(canvas.keys.address);
            batch.key_lengths.push(canvas.keys.rows as u32);
        }
        if batch.wanted.is_empty() {
            return Ok(());
        }
        let weights = &self.weights;
        let rows = self.run(PassKind::Predict, &batch, work, |pass, wanted| {
            pass.embed(weights.decoder_positions)?;
            for (i, (attention, cross, feed_forward)) in weights.decoder.iter().enumerate() {
                pass.self_attention(attention)?;
                pass.cross_attention(cross, i)?;
                pass.feed_forward(feed_forward)?;
            }
            let Inputs { wanted: chosen, .. } = pass.inputs;
            pass.norm_rows(weights.decoder_norm, chosen, 0, wanted)?;
            let Arrays { normed, logits, .. } = pass.arrays;
            for first in (0..wanted).step_by(VOCABULARY_ROWS) {
                let some = (wanted - first).min(VOCABULARY_ROWS);
                let x = pass.offset(normed, first * self.shape.d_model);
                pass.product_rows(weights.output, x, logits, Epilogue::Wide, some)?;
                pass.best_tokens(first, some, pass.rows)?;
            }
            Ok(())
        })?;
        // Tokens of `rows` rows, then their log-probabilities: one copy downloads both.
        let rows = rows * self.shape.top_k();
        let mut bytes = vec![0; rows * 8];
        self.device.download(work.arrays.best, &mut bytes)?;
        let (tokens, log_probs) = bytes.split_at(rows * 4);
        let tokens = tokens.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        top.extend(tokens.zip(floats(log_probs)).take(batch.wanted.len() * self.shape.top_k()));
        Ok(())
    }
}
