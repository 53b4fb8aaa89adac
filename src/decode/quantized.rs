//! [`Translator`] for the 8-bit network.

use super::translator::predictions_by_row;
use super::{Encoded, Limits, Prediction, Row, Translator};
use crate::Result;
use crate::model::{QuantizedNetwork, Refresh, SentenceKeys, TOP_K, quantized::QuantizedCanvas};
use crate::text::Specials;

impl Translator for QuantizedNetwork {
    type Memory = SentenceKeys;

    fn limits(&self) -> Limits {
        Limits::of(self.shape())
    }

    fn specials(&self) -> Specials {
        QuantizedNetwork::specials(self)
    }

    fn refresh(&self) -> Refresh {
        self.shape().refresh
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<SentenceKeys>>> {
        let sentences = self.encode_sentences(sources)?.into_iter().zip(sources);
        Ok(sentences
            .map(|((memory, classes), source)| Encoded {
                memory,
                length_prediction: self.shape().predict_length(&classes, source.len()),
            })
            .collect())
    }

    fn decode(&self, rows: &[Row<'_, SentenceKeys>]) -> Result<Vec<Vec<Prediction>>> {
        let canvases =
            rows.iter().map(|row| QuantizedCanvas { ids: row.canvas, wanted: row.wanted, keys: row.memory });
        let canvases: Vec<QuantizedCanvas> = canvases.collect();
        if rows.iter().any(|row| row.top_k) {
            let top = self.predict_top::<TOP_K>(&canvases)?;
            return Ok(predictions_by_row(rows, top.iter().map(|top| &top[..])));
        }
        let best = self.predict(&canvases)?;
        Ok(predictions_by_row(rows, best.chunks(1)))
    }
}

#[cfg(test)]
mod tests;
