//! Layer normalization over the last dimension, forward and backward in one pass each.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::{for_rows, sum_by, values, with_values};
use super::kernel_path::{KernelPath, select_path};

/// `(x - mean) / sqrt(var + eps) · gain + bias` for each row of `x [.., width]`.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    match select_path(x) {
        KernelPath::Cpu => x.contiguous()?.apply_op3(gain, bias, LayerNormOp { eps }),
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::layer_norm(x, gain, bias, eps),
        KernelPath::Stock => stock(x, gain, bias, eps),
    }
}

/// [`layer_norm`] in stock ops.
pub(super) fn stock(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    centred.broadcast_div(&scale)?.broadcast_mul(gain)?.broadcast_add(bias)
}

struct LayerNormOp {
    eps: f32,
}

/// Mean and 1 / standard deviation of a row.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum_by(row, |v| v) / n;
    let variance = sum_by(row, |v| (v - mean) * (v - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

impl CustomOp3 for LayerNormOp {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, x_layout)?;
        let (gain, bias) = (values(gain, gain_layout)?, values(bias, bias_layout)?);
        let width = gain.len();
        let mut y = vec![0f32; x.len()];
        for_rows(&mut y, width, |i, y| {
            let row = &x[i * width..][..width];
            let (mean, scale) = statistics(row, self.eps);
            for ((y, &v), (&g, &b)) in y.iter_mut().zip(row).zip(gain.iter().zip(bias)) {
                *y = (v - mean) * scale * g + b;
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = gain.elem_count();
        let (dx, dgain, dbias) = with_values(x, |x| {
            with_values(gain, |gain| with_values(grad, |g| self.gradients(x, gain, g, width)))
        })???;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dgain, gain.shape(), x.device())?),
            Some(Tensor::from_vec(dbias, bias.shape(), x.device())?),
        ))
    }
}

impl LayerNormOp {
    /// With n = (x - mean) · scale and d = grad · gain:
    /// `dx = scale · (d - mean(d) - n · mean(d · n))`, `dgain = Σ grad · n`, `dbias = Σ grad`.
    /// Blocks of rows have a fixed size, so the sums do not depend on the number of threads.
    fn gradients(
        &self,
        x: &[f32],
        gain: &[f32],
        grad: &[f32],
        width: usize,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        const ROWS: usize = 256;
        let mut dx = vec![0f32; x.len()];
        let parts: Vec<(Vec<f32>, Vec<f32>)> = dx
            .par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width).zip(grad.par_chunks(ROWS * width)))
            .map(|(dx, (x, grad))| {
                let (mut dgain, mut dbias) = (vec![0f32; width], vec![0f32; width]);
                let mut normal = vec![0f32; width];
                let mut delta = vec![0f32; width];
                pulp::Arch::new().dispatch(|| {
                    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((dx, x), grad) in rows.zip(grad.chunks_exact(width)) {
                        let (mean, scale) = statistics(x, self.eps);
                        for i in 0..width {
                            normal[i] = (x[i] - mean) * scale;
                            delta[i] = grad[i] * gain[i];
                            dgain[i] += grad[i] * normal[i];
                            dbias[i] += grad[i];
                        }
                        let mean_delta = sum_by(&delta, |v| v) / width as f32;
                        let mean_product = super::cpu::dot(&delta, &normal) / width as f32;
                        for i in 0..width {
                            dx[i] = scale * (delta[i] - mean_delta - normal[i] * mean_product);
                        }
                    }
                });
                (dgain, dbias)
            })
            .collect();
        let (mut dgain, mut dbias) = (vec![0f32; width], vec![0f32; width]);
        for (gain, bias) in parts {
            super::cpu::axpy(&mut dgain, 1.0, &gain);
            super::cpu::axpy(&mut dbias, 1.0, &bias);
        }
        (dx, dgain, dbias)
    }
}
