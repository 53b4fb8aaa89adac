//! `activation(x · Wᵀ + b)` as one op: one product, one pass over its result.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{for_rows, values, with_values};
use super::flop_count;
#[cfg(target_arch = "x86_64")]
use super::fused::linear::Map;
use super::kernel_path::{KernelPath, select_path};
use super::product::product;
use super::types::Activation;
use crate::nn::gemm::{Precision, gemm};

/// `x [.., in]`, `weight [out, in]`, `bias [out]` → `[.., out]`.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
    precision: Precision,
) -> Result<Tensor> {
    flop_count::count(x, weight)?;
    match select_path(x) {
        KernelPath::Cpu => x.contiguous()?.apply_op3(weight, bias, LinearOp { activation, precision }),
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::linear(x, weight, bias, activation, precision),
        KernelPath::Stock => stock(x, weight, bias, activation, precision),
    }
}

/// [`linear`] in stock ops.
pub(super) fn stock(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
    precision: Precision,
) -> Result<Tensor> {
    let y = product(x, weight, precision)?.broadcast_add(bias)?;
    match activation {
        Activation::None => Ok(y),
        Activation::Relu => y.relu(),
    }
}

struct LinearOp {
    activation: Activation,
    precision: Precision,
}

/// Whether the product uses the tiles of AMX: in bf16, and if the widths are multiples of a tile.
#[cfg(target_arch = "x86_64")]
fn uses_tiles(precision: Precision, (out, input): (usize, usize)) -> bool {
    precision == Precision::Bf16 && super::fused::whole_tiles(&[out, input])
}

#[cfg(target_arch = "x86_64")]
fn tiled(precision: Precision, weight: &[f32], shape: (usize, usize)) -> Option<Map<'_>> {
    uses_tiles(precision, shape).then_some(Map { weight, input: shape.1, out: shape.0 })
}

impl LinearOp {
    /// Lower bound of the results: 0 with a ReLU.
    fn lower_bound(&self) -> f32 {
        match self.activation {
            Activation::None => f32::NEG_INFINITY,
            Activation::Relu => 0.0,
        }
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, input) = weight_layout.shape().dims2()?;
        let mut shape = x_layout.shape().dims().to_vec();
        match shape.last_mut() {
            Some(last) if *last == input => *last = out,
            _ => bail!("linear: input {:?} does not fit weight [{out}, {input}]", x_layout.shape()),
        }
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let bias = values(bias, bias_layout)?;
        #[cfg(target_arch = "x86_64")]
        if let Some(map) = tiled(self.precision, weight, (out, input)) {
            return Ok((CpuStorage::F32(map.forward(x, bias, self.lower_bound())), Shape::from(shape)));
        }
        let rows = x.len() / input;
        let mut y = vec![0f32; rows * out];
        gemm(self.precision, rows, out, input, x, false, weight, true, &mut y, false);
        let floor = self.lower_bound();
        for_rows(&mut y, out, |_, row| {
            for (y, &b) in row.iter_mut().zip(bias) {
                let v = *y + b;
                *y = if v < floor { floor } else { v }; // NaN passes
            }
        });
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (out, input) = weight.dims2()?;
        #[cfg(target_arch = "x86_64")]
        let weight_tracked = weight.track_op();
        let masked; // gradient before the activation
        let grad = match self.activation {
            Activation::None => grad,
            Activation::Relu => {
                let y = y.contiguous()?;
                masked = with_values(grad, |g| {
                    with_values(&y, |y| {
                        let mut d = g.to_vec();
                        for_rows(&mut d, out, |i, row| {
                            for (d, &y) in row.iter_mut().zip(&y[i * out..]) {
                                *d = if y > 0.0 { *d } else { 0.0 };
                            }
                        });
                        d
                    })
                })??;
                &Tensor::from_vec(masked, y.shape(), y.device())?
            }
        };
        let (dx, dw, db) = with_values(grad, |g| -> Result<_> {
            #[cfg(target_arch = "x86_64")]
            if uses_tiles(self.precision, (out, input)) {
                let (dx, dw) = with_values(weight, |weight| {
                    let map = Map { weight, input, out };
                    if weight_tracked {
                        with_values(x, |x_values| map.backward(Some(x_values), g, x.track_op()))
                    } else {
                        Ok(map.backward(None, g, x.track_op()))
                    }
                })??;
                return Ok((dx, dw, bias.track_op().then(|| column_sums(g, out))));
            }
            let rows = g.len() / out;
            let dx = if x.track_op() {
                let mut dx = vec![0f32; rows * input];
                with_values(weight, |w| {
                    gemm(self.precision, rows, input, out, g, false, w, false, &mut dx, false)
                })?;
                Some(dx)
            } else {
                None
            };
            let dw = if weight.track_op() {
                let mut dw = vec![0f32; out * input];
                with_values(x, |x| {
                    gemm(self.precision, out, input, rows, g, true, x, false, &mut dw, false)
                })?;
                Some(dw)
            } else {
                None
            };
            let db = bias.track_op().then(|| column_sums(g, out));
            Ok((dx, dw, db))
        })??;
        let tensor = |v: Option<Vec<f32>>, like: &Tensor| {
            v.map(|v| Tensor::from_vec(v, like.shape(), like.device())).transpose()
        };
        Ok((tensor(dx, x)?, tensor(dw, weight)?, tensor(db, bias)?))
    }
}

/// Sum over rows. Blocks have a fixed size, so the result does not depend on the number of threads.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    const ROWS: usize = 256;
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|chunk| {
            let mut sum = vec![0f32; width];
            pulp::Arch::new().dispatch(|| {
                for row in chunk.chunks_exact(width) {
                    for (s, &v) in sum.iter_mut().zip(row) {
                        *s += v;
                    }
                }
            });
            sum
        })
        .collect();
    let mut total = vec![0f32; width];
    for part in parts {
        for (t, v) in total.iter_mut().zip(part) {
            *t += v;
        }
    }
    total
}
