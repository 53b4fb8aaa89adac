//! [`Translator`] for a network on a GPU.

use super::translator::predictions_by_row;
use super::{Encoded, Limits, Prediction, Row, Translator};
use crate::Result;
use crate::model::Refresh;
use crate::model::device::{DeviceCanvas, DeviceKeys, DeviceNetwork};
use crate::nn::device::Device;
use crate::text::Specials;

impl<D: Device> Translator for DeviceNetwork<D> {
    type Memory = DeviceKeys<D>;

    fn limits(&self) -> Limits {
        Limits::of(self.shape())
    }

    fn specials(&self) -> Specials {
        DeviceNetwork::specials(self)
    }

    fn refresh(&self) -> Refresh {
        self.shape().refresh
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<DeviceKeys<D>>>> {
        let sentences = self.encode_sentences(sources)?.into_iter().zip(sources);
        Ok(sentences
            .map(|((memory, classes), source)| Encoded {
                memory,
                length_prediction: self.shape().predict_length(&classes, source.len()),
            })
            .collect())
    }

    fn decode(&self, rows: &[Row<'_, DeviceKeys<D>>]) -> Result<Vec<Vec<Prediction>>> {
        let canvases: Vec<DeviceCanvas<'_, D>> =
            rows.iter().map(|r| DeviceCanvas { ids: r.canvas, wanted: r.wanted, keys: r.memory }).collect();
        Ok(predictions_by_row(rows, self.predict_top(&canvases)?.chunks(self.shape().top_k())))
    }
}

#[cfg(test)]
mod tests;
