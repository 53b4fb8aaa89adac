//! Cross entropy with a few weighted classes in each row, and the log-probabilities that such weights are computed
//! from. With the posteriors of an alignment as weights, its gradient is that of CTC.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, for_rows, max, sum_by, values, with_values};
use super::kernel_path::{KernelPath, select_path};

/// Some classes for each row of logits, in any order and possibly repeated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classes {
    /// Start of the classes of each row, and the end of the last row.
    starts: Vec<usize>,
    ids: Vec<u32>,
}

impl Classes {
    pub fn new<R: AsRef<[u32]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let (mut starts, mut ids) = (vec![0], Vec::new());
        for row in rows {
            ids.extend_from_slice(row.as_ref());
            starts.push(ids.len());
        }
        Self { starts, ids }
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of classes of all rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The classes of a row.
    pub(super) fn of(&self, row: usize) -> &[u32] {
        &self.ids[self.range(row)]
    }

    /// Number of rows, and of classes in the row that has most; at least 1.
    fn dims(&self) -> (usize, usize) {
        let widest = self.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        (self.rows(), widest.max(1))
    }

    /// One value for each class; shorter rows are padded with `fill`.
    fn padded<T: Copy>(&self, values: &[T], fill: T) -> Vec<T> {
        let (rows, widest) = self.dims();
        let mut all = Vec::with_capacity(rows * widest);
        for row in 0..rows {
            all.extend_from_slice(&values[self.range(row)]);
            all.resize((row + 1) * widest, fill);
        }
        all
    }

    /// Checks that the classes fit logits `[rows, classes]`.
    pub(super) fn check(&self, (rows, classes): (usize, usize), forbidden: usize) -> Result<()> {
        if self.rows() != rows || rows == 0 {
            bail!("{} rows of classes for {rows} rows of logits", self.rows());
        }
        if self.ids.iter().any(|&id| (id as usize) < forbidden || id as usize >= classes) {
            bail!("a class lies outside {forbidden}..{classes}");
        }
        Ok(())
    }
}

/// The log-probabilities of chosen classes, row after row, on the host; no gradient.
///
/// `logits [rows, classes]`; classes below `forbidden` are ignored.
pub fn log_probs_of(logits: &Tensor, classes: &Classes, forbidden: usize) -> Result<Vec<f32>> {
    classes.check(logits.dims2()?, forbidden)?;
    let width = logits.dim(1)?;
    if select_path(logits) != KernelPath::Cpu {
        let chosen: Vec<Vec<f32>> = gathered(&logits.detach(), classes, forbidden)?.to_vec2()?;
        let own = chosen.iter().enumerate().map(|(row, all)| &all[..classes.range(row).len()]);
        return Ok(own.collect::<Vec<_>>().concat());
    }
    with_values(logits, |logits| {
        let of_row = |(row, logits): (usize, &[f32])| {
            let log_sum = pulp::Arch::new().dispatch(|| log_sum_exp(&logits[forbidden..]));
            classes.ids[classes.range(row)]
                .iter()
                .map(|&id| logits[id as usize] - log_sum)
                .collect::<Vec<_>>()
        };
        let rows: Vec<Vec<f32>> = logits.par_chunks(width).enumerate().map(of_row).collect();
        rows.concat()
    })
}

/// `- Σ weight · log softmax(logits)[class] / divisor` over all rows and their classes, a scalar.
///
/// `logits [rows, classes]`; one weight for each class of `classes`, in order. Weights get no gradient.
pub fn soft_cross_entropy(
    logits: &Tensor,
    classes: &Arc<Classes>,
    weights: &Arc<[f32]>,
    divisor: f64,
    forbidden: usize,
) -> Result<Tensor> {
    classes.check(logits.dims2()?, forbidden)?;
    if weights.len() != classes.len() {
        bail!("{} weights for {} classes", weights.len(), classes.len());
    }
    if select_path(logits) == KernelPath::Cpu {
        let (classes, weights) = (classes.clone(), weights.clone());
        return logits.contiguous()?.apply_op1(SoftCrossEntropy { classes, weights, divisor, forbidden });
    }
    let weights = Tensor::from_vec(classes.padded(weights, 0.0), classes.dims(), logits.device())?;
    (gathered(logits, classes, forbidden)? * weights)?.sum_all()? / -divisor
}

/// The log-probabilities of chosen classes in stock ops, with gradient: `[rows, classes of the longest row]`. The
/// padding of shorter rows holds an arbitrary class.
///
/// Uses `gather`, because a single GPU thread sums the gradient of `index_select`.
fn gathered(logits: &Tensor, classes: &Classes, forbidden: usize) -> Result<Tensor> {
    let allowed = logits.narrow(1, forbidden, logits.dim(1)? - forbidden)?.contiguous()?;
    let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1)?;
    let ids = classes.padded(&classes.ids, forbidden as u32).into_iter().map(|id| id - forbidden as u32);
    log_probs.gather(&Tensor::from_vec(ids.collect(), classes.dims(), logits.device())?, 1)
}

#[inline(always)]
fn log_sum_exp(values: &[f32]) -> f32 {
    let top = max(values);
    top + sum_by(values, |v| exp(v - top)).ln()
}

struct SoftCrossEntropy {
    classes: Arc<Classes>,
    weights: Arc<[f32]>,
    divisor: f64,
    forbidden: usize,
}

impl CustomOp1 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let logits = values(logits, layout)?;
        let mut losses = vec![0f64; rows];
        losses.par_iter_mut().zip(logits.par_chunks(width)).enumerate().for_each(|(row, (loss, logits))| {
            let log_sum = pulp::Arch::new().dispatch(|| log_sum_exp(&logits[self.forbidden..]));
            let range = self.classes.range(row);
            let own = self.classes.ids[range.clone()].iter().zip(&self.weights[range]);
            *loss = own.map(|(&id, &w)| f64::from(w) * f64::from(log_sum - logits[id as usize])).sum();
        });
        let sum = losses.iter().sum::<f64>() / self.divisor;
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    /// `dlogit = (softmax · Σ weights - weight) · grad / divisor`
    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = logits.dims2()?;
        let scale = grad.to_scalar::<f32>()? / self.divisor as f32;
        let dlogits = with_values(logits, |logits| {
            let mut out = vec![0f32; rows * width];
            for_rows(&mut out, width, |row, out| {
                let (ids, weights) =
                    (&self.classes.ids[self.classes.range(row)], &self.weights[self.classes.range(row)]);
                let allowed = &logits[row * width + self.forbidden..(row + 1) * width];
                let (top, inner) = (max(allowed), &mut out[self.forbidden..]);
                for (o, &v) in inner.iter_mut().zip(allowed) {
                    *o = exp(v - top);
                }
                let factor = scale * weights.iter().sum::<f32>() / sum_by(inner, |v| v);
                inner.iter_mut().for_each(|o| *o *= factor);
                for (&id, &weight) in ids.iter().zip(weights) {
                    out[id as usize] -= weight * scale;
                }
            });
            out
        })?;
        Ok(Some(Tensor::from_vec(dlogits, (rows, width), logits.device())?))
    }
}

#[cfg(test)]
mod tests;
