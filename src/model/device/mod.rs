//! The network on a device other than the CPU (see [`crate::nn::device`]), for inference only.
//!
//! All sentences of a call share a pass; their tokens are packed without padding. A pass is one upload, a fixed
//! sequence of kernels and matrix products over memory that never moves, and one small download: the
//! log-probabilities of length classes, or the best token of each wanted position. What decoder passes read of a
//! source stays on the device, in memory that is freed with its last sentence.
//!
//! Small passes are padded to one of a few sizes and replayed (CUDA: as a graph), so that a single sentence does not
//! wait for a hundred kernel launches. Calls larger than the memory was laid out for are split.
//!
//! `weights` and `work` are the two blocks of memory, `pass` holds the steps, `encode` and `predict` the two kinds of
//! pass. The result for a row does not depend on splits, sizes or other rows, bit for bit.

mod encode;
mod pass;
mod predict;
mod weights;
mod work;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use self::weights::Weights;
use self::work::{Batch, Inputs, Work};
use super::{DecoderAttention, NormPlace, Positions, Shape, Spec};
use crate::nn::device::{Columns, Counts, Device, Element, Grid};
use crate::text::Specials;
use crate::{Error, Result};

pub use self::encode::DeviceKeys;
pub use self::predict::DeviceCanvas;

/// Sizes that small passes are padded to, in rows.
const SIZES: [usize; 10] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// Rows that memory is laid out for if there is enough. A pass of this size keeps any GPU busy.
const MAX_ROWS: usize = 1 << 14;
/// Number of largest passes whose encoded sentences must fit the memory.
const HELD_PASSES: usize = 4;

/// A network on a device.
#[derive(Debug)]
pub struct DeviceNetwork<D: Device> {
    shape: Shape,
    element: Element,
    columns: Columns,
    weights: Weights<D::Buffer>,
    work: Mutex<Work<D::Buffer>>,
    halvings: usize,
    device: D,
}

/// The kind of a pass; with its size, the key of its recording.
#[derive(Clone, Copy, Debug)]
enum PassKind {
    Encode,
    Predict,
}

impl<D: Device> DeviceNetwork<D> {
    /// Moves the tensors of a [`super::Network`] (f32, on the CPU) to the device. Memory is laid out for passes of
    /// [`MAX_ROWS`] rows, or half as many until it fits.
    ///
    /// # Errors
    /// [`Error::Config`] for a shape that the kernels do not support, [`Error::Model`] for a tensor that is missing
    /// or has another shape, [`Error::DeviceMemory`] if not even the smallest passes fit.
    pub fn new(
        device: D,
        shape: &Shape,
        tensors: &HashMap<String, Tensor>,
        element: Element,
    ) -> Result<Self> {
        Self::with_rows(device, shape, tensors, element, MAX_ROWS)
    }

    /// With memory for passes of at most `rows` rows, and at least one sentence of full length.
    pub fn with_rows(
        device: D,
        shape: &Shape,
        tensors: &HashMap<String, Tensor>,
        element: Element,
        rows: usize,
    ) -> Result<Self> {
        let shapes = tensors.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
        Spec::check(shape, &shapes).map_err(Error::Model)?;
        let columns = fitting(shape)?;
        let weights = Weights::new(&device, shape, tensors, element)?;
        let least = shape.max_positions;
        let (mut rows, mut halvings) = (rows.max(least), 0);
        let work = loop {
            // Checks that encoded sentences of several passes fit as well.
            let kept = HELD_PASSES * rows * weights.keys_values.outputs * element.size();
            let work = Work::new(&device, shape, element, rows);
            match work.and_then(|work| device.allocate(kept).map(|_| work)) {
                Err(Error::DeviceMemory { .. }) if rows > least => rows = (rows / 2).max(least),
                other => break other?,
            }
            halvings += 1;
        };
        Ok(Self { shape: shape.clone(), element, columns, weights, work: Mutex::new(work), halvings, device })
    }

    /// Records the passes of every size that is replayed, so that no request waits for it.
    pub fn warm_up(&self) -> Result<()> {
        let largest = self.pass_rows();
        // The first run is plain, the second is recorded, the third replays.
        for size in SIZES.into_iter().filter(|&size| size <= largest).flat_map(|size| [size; 3]) {
            let sentences = size.div_ceil(self.shape.max_positions);
            let ids = vec![Specials::default().bos; size / sentences];
            let sources = vec![&ids[..]; sentences];
            let keys: Vec<_> = self.encode_sentences(&sources)?.into_iter().map(|(keys, _)| keys).collect();
            let canvases: Vec<_> =
                keys.iter().map(|keys| DeviceCanvas { ids: &ids, wanted: &[0], keys }).collect();
            self.predict(&canvases)?;
        }
        Ok(())
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn element(&self) -> Element {
        self.element
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    pub fn specials(&self) -> Specials {
        Specials::default()
    }

    /// Ids below this one are never predicted: the special tokens except an Imputer's blank.
    pub fn forbidden(&self) -> usize {
        self.shape.forbidden()
    }

    /// Rows of the largest pass.
    pub fn pass_rows(&self) -> usize {
        self.lock().rows
    }

    /// How often the largest pass was halved until it fitted.
    pub fn halvings(&self) -> usize {
        self.halvings
    }

    /// Device memory of the weights, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes
    }

    pub fn counts(&self) -> Counts {
        self.device.counts()
    }

    fn lock(&self) -> MutexGuard<'_, Work<D::Buffer>> {
        // A panic may leave the memory incomplete, but every pass uploads its input again.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads a batch and runs `steps` on it; small batches are replayed. Returns the number of rows after padding.
    fn run(
        &self,
        kind: PassKind,
        batch: &Batch,
        work: &mut Work<D::Buffer>,
        steps: impl Fn(&pass::DevicePass<'_, D>, usize) -> Result<()>,
    ) -> Result<usize> {
        let own = batch.rows();
        let size = SIZES.into_iter().find(|&size| size >= own && size <= work.rows);
        let rows = size.unwrap_or(own);
        batch.stage(rows, &mut work.staged);
        self.device.upload(&work.staged, work.arrays.inputs)?;
        let pass = pass::DevicePass {
            network: self,
            arrays: work.arrays,
            inputs: Inputs::at(work.arrays.inputs, rows),
            rows,
            sentences: if size.is_some() { rows } else { batch.sentences() },
        };
        match size {
            Some(size) => {
                let wanted = size;
                self.device.replay((size as u64) << 1 | kind as u64, &|| steps(&pass, wanted))?;
            }
            None => steps(&pass, batch.wanted.len())?,
        }
        Ok(rows)
    }
}

/// Checks that the kernels support a shape.
fn fitting(shape: &Shape) -> Result<Columns> {
    shape.validate()?;
    let head = shape.d_model / shape.heads;
    let refuse = |what: String| Err(Error::Config(format!("{what}; use --device cpu for this model")));
    let kind = (shape.norm, shape.positions, shape.decoder_attention);
    if kind != <(NormPlace, Positions, DecoderAttention)>::default() {
        return refuse(format!("CUDA: {kind:?} is not supported, only the default"));
    }
    let columns = match Columns::of(head) {
        Some(columns) => columns,
        None => return refuse(format!("CUDA: heads of width {head}; at most 128 is supported")),
    };
    if !shape.ffn.is_multiple_of(8) {
        return refuse(format!("CUDA: model.ffn = {} is not a multiple of 8", shape.ffn));
    }
    let length = pass::length_floats(shape.d_model, shape.length_classes);
    if length > Grid::MAX_SHARED_FLOATS {
        return refuse(format!(
            "CUDA: d_model {} with {} length classes exceeds the shared memory of the length head",
            shape.d_model, shape.length_classes
        ));
    }
    debug_assert!(pass::attention_floats(128) <= Grid::MAX_SHARED_FLOATS);
    Ok(columns)
}

/// Ranges of neighbours whose lengths add up to at most `rows`. A longer one has its own range.
fn parts(lengths: impl Iterator<Item = usize>, rows: usize) -> Vec<std::ops::Range<usize>> {
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    let mut end = 0;
    for (i, length) in lengths.enumerate() {
        if sum + length > rows && i > start {
            parts.push(start..i);
            (start, sum) = (i, 0);
        }
        sum += length;
        end = i + 1;
    }
    if end > start {
        parts.push(start..end);
    }
    parts
}
