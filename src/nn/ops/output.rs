//! The output layer and its loss as one op. Scores over the vocabulary are computed chunk by chunk, once for the sums
//! of the softmax and once for the gradients, and are never all in memory. Computing a product again is faster than
//! writing its result and reading it back.
//!
//! The loss is a scalar, so its gradients are computed with it and only scaled in the backward pass.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, max, sum_by, with_values};
#[cfg(target_arch = "x86_64")]
use super::fused::output::Layer;
#[cfg(target_arch = "x86_64")]
use super::fused::output_gradients::LossWeights;
#[cfg(target_arch = "x86_64")]
use super::gradients;
use super::kernel_path::{KernelPath, select_path};
use super::linear::column_sums;
use super::types::SoftmaxSums;
use super::{
    Activation, Classes, best_tokens, cross_entropy, flop_count, linear, log_probs_of, soft_cross_entropy,
};
use crate::nn::gemm::{Precision, gemm};

/// Rows and classes of a chunk: about 2 MB of scores.
const ROWS: usize = 1024;
const COLUMNS: usize = 512;

/// An output layer and its input. Classes below `forbidden` have no probability.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// `[rows, width]`
    pub x: &'a Tensor,
    /// `[classes, width]`
    pub weight: &'a Tensor,
    /// `[classes]`
    pub bias: &'a Tensor,
    pub forbidden: usize,
    pub precision: Precision,
}

/// The value of a loss, and its derivatives.
pub struct WeightedLoss {
    pub value: f64,
    /// For each chosen class: minus the derivative of the loss with respect to its log-probability.
    pub weights: Vec<f32>,
}

impl Output<'_> {
    /// Mean over rows of `(1 - smoothing) · nll(gold) + smoothing · mean over allowed classes of nll`, a scalar; see
    /// [`cross_entropy`].
    pub fn cross_entropy(&self, gold: &Arc<[u32]>, smoothing: f32) -> Result<Tensor> {
        if select_path(self.x) != KernelPath::Cpu {
            return cross_entropy(&self.scores()?, gold, smoothing, self.forbidden);
        }
        let classes = Classes::new(gold.iter().map(std::slice::from_ref));
        let rows = gold.len() as f64;
        let allowed = (self.weight.dim(0)? - self.forbidden) as f32;
        let sums = self.sums(&classes)?;
        let nll = |sums: &SoftmaxSums| {
            let (gold, mean) = (sums.log_sum - sums.chosen[0], sums.log_sum - sums.total / allowed);
            f64::from((1.0 - smoothing) * gold + smoothing * mean)
        };
        let value = sums.iter().map(nll).sum::<f64>() / rows;
        let weights = vec![(1.0 - smoothing) / rows as f32; gold.len()];
        self.loss(&classes, &sums, &WeightedLoss { value, weights }, smoothing / (allowed * rows as f32))
    }

    /// The log-probabilities of chosen classes, row after row, on the host; no gradient.
    pub fn log_probs_of(&self, classes: &Classes) -> Result<Vec<f32>> {
        if select_path(self.x) != KernelPath::Cpu {
            return log_probs_of(&self.scores()?.detach(), classes, self.forbidden);
        }
        Ok(log_probs(&self.sums(classes)?))
    }

    /// The best class of each row with its log-probability, on the host; no gradient. Ties go to the lower class.
    pub fn best_tokens(&self) -> Result<Vec<(u32, f32)>> {
        #[cfg(target_arch = "x86_64")]
        if select_path(self.x) == KernelPath::Cpu && self.tiled() {
            self.check()?;
            return self.with(|x, weight, bias| {
                let layer = Layer { x, weight, bias, forbidden: self.forbidden };
                layer.best(&layer.packed())
            });
        }
        best_tokens(&self.scores()?.detach(), self.forbidden)
    }

    /// A loss that depends only on the log-probabilities of chosen classes. `weigh` computes it from these, row after
    /// row.
    pub fn loss_of<E: From<candle_core::Error>>(
        &self,
        classes: &Arc<Classes>,
        weigh: impl FnOnce(&[f32]) -> std::result::Result<WeightedLoss, E>,
    ) -> std::result::Result<Tensor, E> {
        if select_path(self.x) == KernelPath::Cpu {
            let sums = self.sums(classes)?;
            return Ok(self.loss(classes, &sums, &weigh(&log_probs(&sums))?, 0.0)?);
        }
        let scores = self.scores()?;
        let log_probs = log_probs_of(&scores, classes, self.forbidden)?;
        let WeightedLoss { value, weights } = weigh(&log_probs)?;
        let cross_entropy: f64 =
            log_probs.iter().zip(&weights).map(|(&s, &w)| -f64::from(s) * f64::from(w)).sum();
        let loss = soft_cross_entropy(&scores, classes, &weights.into(), 1.0, self.forbidden)?;
        Ok(loss.affine(1.0, value - cross_entropy)?)
    }

    fn scores(&self) -> Result<Tensor> {
        linear(self.x, self.weight, self.bias, Activation::None, self.precision)
    }

    #[cfg(target_arch = "x86_64")]
    fn tiled(&self) -> bool {
        super::fused::tiled(self.precision, self.x, &[self.x.dim(1).unwrap_or(1)])
    }

    /// Rows, width and classes. Counts the product.
    fn check(&self) -> Result<(usize, usize, usize)> {
        let ((rows, width), (count, own)) = (self.x.dims2()?, self.weight.dims2()?);
        if width != own || self.bias.dims() != [count] {
            bail!("output: {:?} does not fit {:?}", self.x.shape(), self.weight.shape());
        }
        flop_count::count(self.x, self.weight)?;
        Ok((rows, width, count))
    }

    /// Calls `work` with the values of `x`, weight and bias.
    fn with<R>(&self, work: impl FnOnce(&[f32], &[f32], &[f32]) -> R) -> Result<R> {
        with_values(self.x, |x| {
            with_values(self.weight, |weight| with_values(self.bias, |bias| work(x, weight, bias)))
        })??
    }

    /// For each row, the sums of its softmax over the classes. Counts the product.
    fn sums(&self, classes: &Classes) -> Result<Vec<SoftmaxSums>> {
        let (rows, width, count) = self.check()?;
        classes.check((rows, count), self.forbidden)?;
        #[cfg(target_arch = "x86_64")]
        if self.tiled() {
            return self.with(|x, weight, bias| {
                let layer = Layer { x, weight, bias, forbidden: self.forbidden };
                layer.sums(&layer.packed(), classes)
            });
        }
        let mut sums: Vec<SoftmaxSums> =
            (0..rows).map(|row| SoftmaxSums::new(classes.of(row).len())).collect();
        self.with(|x, weight, bias| {
            let mut scores = vec![0f32; ROWS * COLUMNS];
            for (block, sums) in sums.chunks_mut(ROWS).enumerate() {
                let x = &x[block * ROWS * width..][..sums.len() * width];
                for (first, chunk) in self.chunks(weight, width) {
                    let here = chunk.len() / width;
                    let scores = &mut scores[..sums.len() * here];
                    gemm(self.precision, sums.len(), here, width, x, false, chunk, true, scores, false);
                    let rows = sums.par_iter_mut().zip(scores.par_chunks_mut(here)).with_min_len(32);
                    rows.enumerate().for_each(|(row, (sums, scores))| {
                        let own = classes.of(block * ROWS + row);
                        pulp::Arch::new().dispatch(|| sums.add(first, scores, &bias[first..][..here], own));
                    });
                }
            }
        })?;
        sums.iter_mut().for_each(|sums| sums.log_sum = sums.top + sums.sum.ln());
        Ok(sums)
    }

    /// Chunks of the allowed rows of `weight`, each with the index of its first row.
    fn chunks<'w>(&self, weight: &'w [f32], width: usize) -> impl Iterator<Item = (usize, &'w [f32])> {
        let starts = (self.forbidden..).step_by(COLUMNS);
        starts.zip(weight[self.forbidden * width..].chunks(COLUMNS * width))
    }

    /// The loss as a scalar, with its gradients if any are needed. `spread` is a weight of every allowed class in every
    /// row, in addition to the weights of chosen classes.
    fn loss(
        &self,
        classes: &Classes,
        sums: &[SoftmaxSums],
        weighted: &WeightedLoss,
        spread: f32,
    ) -> Result<Tensor> {
        #[cfg(target_arch = "x86_64")]
        if self.tiled() {
            let [weight, bias] = [self.weight, self.bias].map(Tensor::clone);
            let loss = TiledLoss {
                value: weighted.value as f32,
                weight,
                bias,
                forbidden: self.forbidden,
                classes: classes.clone(),
                weights: weighted.weights.clone(),
                spread,
                log_sums: sums.iter().map(|sums| sums.log_sum).collect(),
            };
            return self.x.apply_op1(loss);
        }
        let op = |gradient| ComputedLoss { value: weighted.value as f32, gradient: Mutex::new(gradient) };
        let tracked = [self.x, self.weight, self.bias].iter().any(|tensor| tensor.track_op());
        let gradient =
            tracked.then(|| self.with(|x, w, b| self.gradient(x, w, b, classes, sums, weighted, spread)));
        self.x.apply_op3(self.weight, self.bias, op(gradient.transpose()?))
    }

    /// The gradients of input, weight and bias, from `dscore = softmax · Σ weights - weight` for each class of each
    /// row.
    #[allow(clippy::too_many_arguments)]
    fn gradient(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        classes: &Classes,
        sums: &[SoftmaxSums],
        weighted: &WeightedLoss,
        spread: f32,
    ) -> Gradient {
        let width = weight.len() / bias.len();
        let allowed = (bias.len() - self.forbidden) as f32;
        let mut gradient =
            Gradient { x: vec![0.0; x.len()], weight: vec![0.0; weight.len()], bias: vec![0.0; bias.len()] };
        let mut scores = vec![0f32; ROWS * COLUMNS];
        for (block, sums) in sums.chunks(ROWS).enumerate() {
            let rows = sums.len();
            let at = block * ROWS * width;
            let x = &x[at..][..rows * width];
            for (first, chunk) in self.chunks(weight, width) {
                let here = chunk.len() / width;
                let scores = &mut scores[..rows * here];
                gemm(self.precision, rows, here, width, x, false, chunk, true, scores, false);
                let all = sums.par_iter().zip(scores.par_chunks_mut(here)).with_min_len(32);
                all.enumerate().for_each(|(row, (sums, scores))| {
                    let range = classes.range(block * ROWS + row);
                    let weights = &weighted.weights[range.clone()];
                    let total_weight = weights.iter().sum::<f32>() + spread * allowed;
                    pulp::Arch::new().dispatch(|| {
                        for (score, &bias) in scores.iter_mut().zip(&bias[first..]) {
                            *score = exp(*score + bias - sums.log_sum) * total_weight - spread;
                        }
                    });
                    for (&class, weight) in classes.ids()[range].iter().zip(weights) {
                        if let Some(score) =
                            (class as usize).checked_sub(first).and_then(|c| scores.get_mut(c))
                        {
                            *score -= weight;
                        }
                    }
                });
                let dx = &mut gradient.x[at..][..rows * width];
                gemm(self.precision, rows, width, here, scores, false, chunk, false, dx, true);
                let dw = &mut gradient.weight[first * width..][..here * width];
                gemm(self.precision, here, width, rows, scores, true, x, false, dw, true);
                let db = &mut gradient.bias[first..][..here];
                db.iter_mut().zip(column_sums(scores, here)).for_each(|(sum, value)| *sum += value);
            }
        }
        gradient
    }
}

/// The loss with tiles. Its gradients are computed in the backward pass; those of weight and bias are added in place.
#[cfg(target_arch = "x86_64")]
struct TiledLoss {
    value: f32,
    weight: Tensor,
    bias: Tensor,
    forbidden: usize,
    classes: Classes,
    /// Weights of the chosen classes; `spread` is that of every allowed class.
    weights: Vec<f32>,
    spread: f32,
    /// One for each row.
    log_sums: Vec<f32>,
}

#[cfg(target_arch = "x86_64")]
impl CustomOp1 for TiledLoss {
    fn name(&self) -> &'static str {
        "output-loss"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let scale = grad.to_scalar::<f32>()?;
        let weights: Vec<f32> = self.weights.iter().map(|weight| weight * scale).collect();
        let loss_weights =
            LossWeights { weights: &weights, spread: self.spread * scale, log_sums: &self.log_sums };
        let [mut weight, mut bias] = [&self.weight, &self.bias].map(gradients::GradientSum::of);
        let dx = with_values(x, |x| {
            with_values(&self.weight, |w| {
                with_values(&self.bias, |b| -> Result<_> {
                    let layer = Layer { x, weight: w, bias: b, forbidden: self.forbidden };
                    let (dweight, dbias) = (weight.values()?, bias.values()?);
                    Ok(layer.gradients(&layer.packed(), &self.classes, &loss_weights, dweight, dbias))
                })
            })
        })????;
        weight.store();
        bias.store();
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

impl SoftmaxSums {
    /// Adds the scores, still without bias, of the classes from `first`.
    #[inline(always)]
    fn add(&mut self, first: usize, scores: &mut [f32], bias: &[f32], classes: &[u32]) {
        scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        let top = self.top.max(max(scores));
        // Before the first chunk the sum is 0. NaN stays NaN.
        self.sum = self.sum * exp(self.top - top) + sum_by(scores, |score| exp(score - top));
        self.top = top;
        self.total += sum_by(scores, |score| score);
        for (&class, chosen) in classes.iter().zip(&mut self.chosen) {
            if let Some(&score) = (class as usize).checked_sub(first).and_then(|c| scores.get(c)) {
                *chosen = score;
            }
        }
    }
}

/// The log-probabilities of the chosen classes of all rows.
fn log_probs(sums: &[SoftmaxSums]) -> Vec<f32> {
    sums.iter().flat_map(|sums| sums.chosen.iter().map(|score| score - sums.log_sum)).collect()
}

struct Gradient {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// A scalar whose gradients are already computed.
struct ComputedLoss {
    value: f32,
    gradient: Mutex<Option<Gradient>>,
}

impl CustomOp3 for ComputedLoss {
    fn name(&self) -> &'static str {
        "output-loss"
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _weight: &CpuStorage,
        _weight_layout: &Layout,
        _bias: &CpuStorage,
        _bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(Gradient { x: dx, weight: dw, bias: db }) =
            self.gradient.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            bail!("the gradients of an output loss were already computed")
        };
        let scale = grad.to_scalar::<f32>()?;
        let scaled = |mut values: Vec<f32>, like: &Tensor| {
            values.par_chunks_mut(1 << 16).for_each(|part| part.iter_mut().for_each(|value| *value *= scale));
            Tensor::from_vec(values, like.shape(), like.device())
        };
        Ok((Some(scaled(dx, x)?), Some(scaled(dw, weight)?), Some(scaled(db, bias)?)))
    }
}

#[cfg(test)]
mod tests;
