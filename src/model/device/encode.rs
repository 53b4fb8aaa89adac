//! The encoder pass.

use std::sync::Arc;

use super::work::{Arrays, Batch, Work};
use super::{DeviceNetwork, PassKind, parts};
use crate::Result;
use crate::nn::device::{Address, Device, Epilogue};

/// What decoder passes read of one sentence: its keys and values for every decoder layer, on the device.
#[derive(Debug)]
pub struct DeviceKeys<D: Device> {
    /// Shared with all sentences of the same encoder pass.
    _memory: Arc<D::Buffer>,
    pub(super) address: Address,
    pub(super) rows: usize,
}

impl<D: Device> DeviceNetwork<D> {
    /// Returns, for each sentence, its keys and values and the log-probabilities of its length classes (empty without
    /// a length head).
    ///
    /// # Errors
    /// [`crate::Error::Model`] for an empty sentence, one beyond `max_positions`, or an unknown id;
    /// [`crate::Error::DeviceMemory`] if the device has no memory for the result.
    pub fn encode_sentences(&self, sources: &[&[u32]]) -> Result<Vec<(DeviceKeys<D>, Vec<f32>)>> {
        sources.iter().try_for_each(|source| self.shape.check_row(source))?;
        let mut work = self.lock();
        let mut encoded = Vec::with_capacity(sources.len());
        for part in parts(sources.iter().map(|source| source.len()), work.rows) {
            self.encode_part(&sources[part], &mut work, &mut encoded)?;
        }
        Ok(encoded)
    }

    fn encode_part(
        &self,
        sources: &[&[u32]],
        work: &mut Work<D::Buffer>,
        encoded: &mut Vec<(DeviceKeys<D>, Vec<f32>)>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        sources.iter().for_each(|source| batch.push(source));
        let weights = &self.weights;
        let row = weights.keys_values.outputs * self.element.size();
        // Allocate before anything is queued, so that a failure leaves nothing half done.
        let memory = Arc::new(self.device.allocate(batch.rows() * row)?);
        self.run(PassKind::Encode, &batch, work, |pass, _| {
            let Arrays { normed, states, keys, .. } = pass.arrays;
            pass.embed(weights.encoder_positions)?;
            for (attention, feed_forward) in &weights.encoder {
                pass.self_attention(attention)?;
                pass.feed_forward(feed_forward)?;
            }
            pass.norm_rows(weights.encoder_norm, 0, states, pass.rows)?;
            pass.product(weights.keys_values, normed, keys, Epilogue::Store)?;
            pass.length_classes()
        })?;
        let address = self.device.address(&memory);
        self.device.copy(work.arrays.keys, address, batch.rows() * row)?;
        let own = self.shape.length_classes * 4;
        let mut bytes = vec![0; sources.len() * own];
        if own > 0 {
            self.device.download(work.arrays.classes, &mut bytes)?;
        }
        for (i, source) in sources.iter().enumerate() {
            let log_probs = &bytes[i * own..][..own];
            let keys = DeviceKeys {
                _memory: memory.clone(),
                address: address + u64::from(batch.starts[i]) * row as u64,
                rows: source.len(),
            };
            encoded.push((keys, floats(log_probs).collect()));
        }
        Ok(())
    }
}

/// f32 values in native byte order.
pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}
