//! Label-smoothed cross entropy. The backward pass recomputes the softmax.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, for_rows, max, sum_by, values, with_values};
use super::kernel_path::{KernelPath, select_path};

/// Mean over rows of `(1 - ε) · nll(gold) + ε · mean over allowed classes of nll`, a scalar.
///
/// `logits [rows, classes]`; `gold[row]` is a class. Classes below `forbidden` have no probability and no smoothing
/// mass (special tokens have the lowest ids).
pub fn cross_entropy(logits: &Tensor, gold: &Arc<[u32]>, smoothing: f32, forbidden: usize) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if gold.len() != rows || rows == 0 {
        bail!("cross entropy: {} gold classes for {rows} rows of logits", gold.len());
    }
    if gold.iter().any(|&g| (g as usize) < forbidden || g as usize >= classes) {
        bail!("cross entropy: a gold class lies outside {forbidden}..{classes}");
    }
    match select_path(logits) {
        KernelPath::Cpu => {
            logits.contiguous()?.apply_op1(CrossEntropy { gold: gold.clone(), smoothing, forbidden })
        }
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::cross_entropy(logits, gold, smoothing, forbidden),
        KernelPath::Stock => stock(logits, gold, smoothing, forbidden),
    }
}

/// [`cross_entropy`] in stock ops.
pub(super) fn stock(logits: &Tensor, gold: &[u32], smoothing: f32, forbidden: usize) -> Result<Tensor> {
    let classes = logits.dim(1)?;
    let allowed = logits.narrow(1, forbidden, classes - forbidden)?;
    let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1)?;
    let index: Vec<u32> = gold.iter().map(|g| g - forbidden as u32).collect();
    let index = Tensor::from_vec(index, (gold.len(), 1), logits.device())?;
    let gold = log_probs.gather(&index, 1)?.mean_all()?;
    let spread = log_probs.mean_all()?;
    gold.affine(f64::from(smoothing) - 1.0, 0.0)? - spread.affine(f64::from(smoothing), 0.0)?
}

struct CrossEntropy {
    gold: Arc<[u32]>,
    smoothing: f32,
    forbidden: usize,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, classes) = layout.shape().dims2()?;
        let logits = values(logits, layout)?;
        let mut losses = vec![0f64; rows];
        losses.par_iter_mut().zip(logits.par_chunks(classes)).zip(self.gold.par_iter()).for_each(
            |((loss, row), &gold)| {
                pulp::Arch::new().dispatch(|| {
                    let allowed = &row[self.forbidden..];
                    let top = max(allowed);
                    let log_sum = top + sum_by(allowed, |v| exp(v - top)).ln();
                    let mean = sum_by(allowed, |v| v) / allowed.len() as f32;
                    let nll = log_sum - row[gold as usize];
                    *loss = f64::from((1.0 - self.smoothing) * nll + self.smoothing * (log_sum - mean));
                });
            },
        );
        let mean = losses.iter().sum::<f64>() / rows as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    /// `dlogit = (softmax - (1 - ε) · [gold] - ε / classes) · grad / rows`
    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, classes) = logits.dims2()?;
        let scale = grad.to_scalar::<f32>()? / rows as f32;
        let spread = self.smoothing / (classes - self.forbidden) as f32;
        let dlogits = with_values(logits, |logits| {
            let mut out = vec![0f32; rows * classes];
            for_rows(&mut out, classes, |i, out| {
                let gold = self.gold[i] as usize;
                let allowed = &logits[i * classes + self.forbidden..][..classes - self.forbidden];
                let top = max(allowed);
                let inner = &mut out[self.forbidden..];
                for (o, &v) in inner.iter_mut().zip(allowed) {
                    *o = exp(v - top);
                }
                let factor = scale / sum_by(inner, |v| v);
                for o in inner.iter_mut() {
                    *o = *o * factor - spread * scale;
                }
                out[gold] -= (1.0 - self.smoothing) * scale;
            });
            out
        })?;
        Ok(Some(Tensor::from_vec(dlogits, (rows, classes), logits.device())?))
    }
}
