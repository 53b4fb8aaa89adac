//! [`Translator`] for the 8-bit network.

use super::translator::answers;
use super::{Encoded, Limits, Prediction, Row, Translator};
use crate::Result;
use crate::model::{QuantizedNetwork, Refresh, SentenceKeys, TOP_K, quantized::Canvas};
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
                outline: self.shape().outline(&classes, source.len()),
            })
            .collect())
    }

    fn decode(&self, rows: &[Row<'_, SentenceKeys>]) -> Result<Vec<Vec<Prediction>>> {
        let canvases = rows.iter().map(|row| Canvas {
            ids: row.canvas,
            wanted: row.wanted,
            keys: row.memory,
            narrow: row.one_step,
        });
        let canvases: Vec<Canvas> = canvases.collect();
        if rows.iter().any(|row| row.choices) {
            let top = self.predict_top::<TOP_K>(&canvases)?;
            return Ok(answers(rows, top.iter().map(|top| &top[..])));
        }
        let best = self.predict(&canvases)?;
        Ok(answers(rows, best.chunks(1)))
    }
}

#[cfg(test)]
mod tests;
