//! The CMLM on a device that is not the CPU (see [`crate::nn::device`]), for inference only.
//!
//! All sentences of a call go through a pass together, their tokens packed without padding. A pass is one
//! upload, a fixed sequence of kernels and products over memory that never moves, and one small answer: the
//! log-probabilities of length classes, or the best token of each wanted place. What decoder passes read
//! of a source stays on the device, in memory of its own that goes when its last sentence does.
//!
//! Small passes are filled up to one of a few sizes and replayed (CUDA: as a graph), so that one sentence does
//! not wait for a hundred launches. Larger calls than the memory was laid out for go in parts.
//!
//! `weights` and `work` are the two pieces of memory, `pass` the steps, `encode` and `predict` the passes.
//! Neither parts, sizes nor neighbours change a row's bits.

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

/// Sizes that small passes are filled up to, in rows.
const SIZES: [usize; 10] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// Rows that memory is laid out for where there is enough: a pass this large keeps any GPU busy.
const MOST_ROWS: usize = 1 << 14;
/// Batches whose sentences are between two passes at a time.
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

/// What a pass is; with its size, the key of its recording.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Encode,
    Predict,
}

impl<D: Device> DeviceNetwork<D> {
    /// Moves the tensors that [`super::Network`] takes, f32 on the CPU, to the device. Memory is laid out for
    /// as large passes as fit, halving from [`MOST_ROWS`] on where the device has too little.
    ///
    /// # Errors
    /// [`Error::Config`] for a shape that the kernels are not made for, [`Error::Model`] for a tensor that
    /// is missing or of another shape, [`Error::DeviceMemory`] where not even the smallest passes fit.
    pub fn new(
        device: D,
        shape: &Shape,
        tensors: &HashMap<String, Tensor>,
        element: Element,
    ) -> Result<Self> {
        Self::with_rows(device, shape, tensors, element, MOST_ROWS)
    }

    /// With memory for passes of at most `rows` rows, and at least one sentence.
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
            // Leaves room for the encoded sentences of several such passes.
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

    /// Runs passes of every size that is replayed until each is recorded, so that no request waits for it.
    pub fn warm_up(&self) -> Result<()> {
        let most = self.pass_rows();
        // Once plainly, once recorded, once replayed.
        for size in SIZES.into_iter().filter(|&size| size <= most).flat_map(|size| [size; 3]) {
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

    /// The number of ids, from 0 up, that no prediction may be: all specials, but for an Imputer's blank.
    pub fn forbidden(&self) -> usize {
        self.shape.forbidden()
    }

    /// Rows of the largest pass that the device's memory holds.
    pub fn pass_rows(&self) -> usize {
        self.lock().rows
    }

    /// How often they were halved until they fitted.
    pub fn halvings(&self) -> usize {
        self.halvings
    }

    /// What the weights take of the device's memory.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes
    }

    pub fn counts(&self) -> Counts {
        self.device.counts()
    }

    fn lock(&self) -> MutexGuard<'_, Work<D::Buffer>> {
        // The next pass uploads again what a panic left incomplete.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads a batch and takes it through `steps`; small ones are replayed. Answers the size that the
    /// batch was filled up to, in rows.
    fn run(
        &self,
        phase: Phase,
        batch: &Batch,
        work: &mut Work<D::Buffer>,
        steps: impl Fn(&pass::Pass<'_, D>, usize) -> Result<()>,
    ) -> Result<usize> {
        let own = batch.rows();
        let size = SIZES.into_iter().find(|&size| size >= own && size <= work.rows);
        let rows = size.unwrap_or(own);
        batch.stage(rows, &mut work.staged);
        self.device.upload(&work.staged, work.places.inputs)?;
        let pass = pass::Pass {
            network: self,
            places: work.places,
            inputs: Inputs::at(work.places.inputs, rows),
            rows,
            sentences: if size.is_some() { rows } else { batch.sentences() },
        };
        match size {
            Some(size) => {
                let wanted = size;
                self.device.replay((size as u64) << 1 | phase as u64, &|| steps(&pass, wanted))?;
            }
            None => steps(&pass, batch.wanted.len())?,
        }
        Ok(rows)
    }
}

/// What the kernels and products take.
fn fitting(shape: &Shape) -> Result<Columns> {
    shape.validate()?;
    let head = shape.d_model / shape.heads;
    let refuse = |what: String| Err(Error::Config(format!("{what}; use --device cpu for this model")));
    let kind = (shape.norm, shape.positions, shape.decoder_attention);
    if kind != <(NormPlace, Positions, DecoderAttention)>::default() {
        return refuse(format!("CUDA: {kind:?}, where only the default's is possible"));
    }
    let columns = match Columns::of(head) {
        Some(columns) => columns,
        None => return refuse(format!("CUDA: heads of {head} values, where 128 are possible")),
    };
    if !shape.ffn.is_multiple_of(8) {
        return refuse(format!("CUDA: model.ffn = {} is no multiple of 8", shape.ffn));
    }
    let length = pass::length_floats(shape.d_model, shape.length_classes);
    if length > Grid::MOST_SHARED_FLOATS {
        return refuse(format!(
            "CUDA: d_model {} and {} length classes are too much for the length head",
            shape.d_model, shape.length_classes
        ));
    }
    debug_assert!(pass::attention_floats(128) <= Grid::MOST_SHARED_FLOATS);
    Ok(columns)
}

/// Runs of neighbours whose lengths sum up to at most `rows`; a longer one goes alone.
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
