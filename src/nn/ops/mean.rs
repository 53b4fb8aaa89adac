//! The mean over the positions of a sentence.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use super::cpu::{axpy, values, with_values};
use super::kernel_path::{KernelPath, select_path};

/// The mean over the real positions of each row, `x [rows, len, width]` → `[rows, width]`. The first `lengths[i]`
/// positions of row `i` are real.
pub fn mean_of_real(x: &Tensor, lengths: &Arc<[usize]>) -> Result<Tensor> {
    let (rows, len, _) = x.dims3()?;
    if lengths.len() != rows || lengths.iter().any(|&l| l == 0 || l > len) {
        bail!("lengths {lengths:?} do not fit {rows} rows of {len} positions");
    }
    match select_path(x) {
        KernelPath::Cpu => x.contiguous()?.apply_op1(MeanOp { lengths: lengths.clone() }),
        _ => stock(x, lengths),
    }
}

/// [`mean_of_real`] in stock ops.
pub(super) fn stock(x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (rows, len, _) = x.dims3()?;
    let weights = lengths
        .iter()
        .flat_map(|&real| (0..len).map(move |i| if i < real { 1.0 / real as f32 } else { 0.0 }))
        .collect::<Vec<f32>>();
    x.broadcast_mul(&Tensor::from_vec(weights, (rows, len, 1), x.device())?)?.sum(D::Minus2)
}

struct MeanOp {
    lengths: Arc<[usize]>,
}

impl CustomOp1 for MeanOp {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, len, width) = layout.shape().dims3()?;
        let x = values(x, layout)?;
        let mut means = vec![0f32; rows * width];
        let sentences = means.chunks_exact_mut(width).zip(x.chunks_exact(len * width));
        for ((mean, x), &real) in sentences.zip(&*self.lengths) {
            for x in x.chunks_exact(width).take(real) {
                axpy(mean, 1.0 / real as f32, x);
            }
        }
        Ok((CpuStorage::F32(means), Shape::from((rows, width))))
    }

    fn bwd(&self, x: &Tensor, _mean: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, len, width) = x.dims3()?;
        let dx = with_values(grad, |grad| {
            let mut dx = vec![0f32; x.elem_count()];
            let sentences = dx.chunks_exact_mut(len * width).zip(grad.chunks_exact(width));
            for ((dx, grad), &real) in sentences.zip(&*self.lengths) {
                for dx in dx.chunks_exact_mut(width).take(real) {
                    axpy(dx, 1.0 / real as f32, grad);
                }
            }
            dx
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
