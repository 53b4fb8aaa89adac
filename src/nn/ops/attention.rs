//! Multi-head attention as one op: scores, padding, softmax and values, without transposed copies and without a score
//! matrix in memory. Padded keys are never read; the results of padded queries are zero.
//!
//! softmax(Q · Kᵀ / √head) · V (Vaswani et al. 2017). The backward pass recomputes the softmax P:
//! dS = P ∘ (dP - rowsum(dP ∘ P)).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{axpy, dot, exp, max, sum_by, values, with_values};
use super::kernel_path::{KernelPath, select_path};
use super::types::AttentionMask;

/// `qkv [rows, len, 3 · width]` → `[rows, len, width]`; row `i` has `lengths[i]` real positions.
pub fn self_attention(
    qkv: &Tensor,
    lengths: &Arc<[usize]>,
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    let (rows, len, triple) = qkv.dims3()?;
    let width = triple / 3;
    check(rows, len, width, heads, lengths)?;
    let part = |i| qkv.narrow(2, i * width, width);
    match select_path(qkv) {
        KernelPath::Cpu => {
            let shape = Attention { rows, queries: len, keys: len, width, heads, mask };
            qkv.contiguous()?.apply_op1(SelfOp { shape, lengths: lengths.clone() })
        }
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => {
            super::kernels::attention(&part(0)?, &part(1)?, &part(2)?, lengths, lengths, heads, mask)
        }
        KernelPath::Stock => stock(&part(0)?, &part(1)?, &part(2)?, lengths, lengths, heads, mask),
    }
}

/// `query [rows, target, width]`, `keys_values [rows, source, 2 · width]` → `[rows, target, width]`.
pub fn cross_attention(
    query: &Tensor,
    keys_values: &Tensor,
    lengths: &Arc<[usize]>,
    source_lengths: &Arc<[usize]>,
    heads: usize,
) -> Result<Tensor> {
    let (rows, len, width) = query.dims3()?;
    let (source_rows, source, double) = keys_values.dims3()?;
    if source_rows != rows || double != 2 * width {
        bail!("attention: {:?} does not fit {:?}", query.shape(), keys_values.shape());
    }
    check(rows, len, width, heads, lengths)?;
    check(rows, source, width, heads, source_lengths)?;
    let (part, mask) = (|i| keys_values.narrow(2, i * width, width), AttentionMask::Whole);
    match select_path(query) {
        KernelPath::Cpu => {
            let shape = Attention { rows, queries: len, keys: source, width, heads, mask };
            let op = CrossOp { shape, lengths: lengths.clone(), source_lengths: source_lengths.clone() };
            query.contiguous()?.apply_op2(&keys_values.contiguous()?, op)
        }
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => {
            super::kernels::attention(query, &part(0)?, &part(1)?, lengths, source_lengths, heads, mask)
        }
        KernelPath::Stock => stock(query, &part(0)?, &part(1)?, lengths, source_lengths, heads, mask),
    }
}

fn check(rows: usize, len: usize, width: usize, heads: usize, lengths: &[usize]) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) {
        bail!("attention: width {width} is not a multiple of {heads} heads");
    }
    if lengths.len() != rows || lengths.iter().any(|&l| l == 0 || l > len) {
        bail!("attention: lengths {lengths:?} do not fit {rows} rows of {len} positions");
    }
    Ok(())
}

/// Attention in stock ops: `q [rows, queries, width]`, `k` and `v [rows, keys, width]`.
pub(super) fn stock(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &[usize],
    key_lengths: &[usize],
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    let (rows, queries, width) = q.dims3()?;
    let (keys, head) = (k.dim(1)?, width / heads);
    // [rows, len, width] -> [rows, heads, len, head]
    let split = |x: &Tensor, len| x.reshape((rows, len, heads, head))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
    let mut bias = vec![f32::NEG_INFINITY; rows * queries * keys];
    for (place, bias) in bias.chunks_exact_mut(keys).enumerate() {
        bias[..mask.of(place % queries, key_lengths[place / queries])].fill(0.0);
    }
    let bias = Tensor::from_vec(bias, (rows, 1, queries, keys), q.device())?;
    let scores = (q.matmul(&k.t()?)? * (head as f64).powf(-0.5))?.broadcast_add(&bias)?;
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?; // [rows, heads, queries, head]
    let real: Vec<f32> = lengths
        .iter()
        .flat_map(|&real| (0..queries).map(move |i| if i < real { 1.0 } else { 0.0 }))
        .collect();
    let real = Tensor::from_vec(real, (rows, queries, 1), q.device())?;
    mixed.transpose(1, 2)?.reshape((rows, queries, width))?.broadcast_mul(&real)
}

#[derive(Clone, Copy)]
struct Attention {
    rows: usize,
    queries: usize,
    keys: usize,
    width: usize,
    heads: usize,
    mask: AttentionMask,
}

/// The layout of the vectors of one row: position `i`, head `h` starts at `offset + i · stride + h · head`.
#[derive(Clone, Copy)]
struct View {
    offset: usize,
    stride: usize,
}

impl View {
    #[inline(always)]
    fn at(self, position: usize, start: usize) -> usize {
        self.offset + position * self.stride + start
    }
}

struct Views {
    query: View,
    key: View,
    value: View,
}

impl Attention {
    fn scale(&self) -> f32 {
        ((self.width / self.heads) as f32).powf(-0.5)
    }

    fn self_views(&self) -> Views {
        let view = |part| View { offset: part * self.width, stride: 3 * self.width };
        Views { query: view(0), key: view(1), value: view(2) }
    }

    fn cross_views(&self) -> Views {
        let view = |part| View { offset: part * self.width, stride: 2 * self.width };
        Views { query: View { offset: 0, stride: self.width }, key: view(0), value: view(1) }
    }

    /// Writes the attention weights of one query of one head to `weights`.
    #[inline(always)]
    fn weights(&self, query: &[f32], keys: &[f32], view: View, start: usize, weights: &mut [f32]) {
        let head = self.width / self.heads;
        let scale = self.scale();
        for (j, w) in weights.iter_mut().enumerate() {
            *w = dot(query, &keys[view.at(j, start)..][..head]) * scale;
        }
        let top = max(weights);
        for w in weights.iter_mut() {
            *w = exp(*w - top);
        }
        let factor = 1.0 / sum_by(weights, |w| w);
        for w in weights.iter_mut() {
            *w *= factor;
        }
    }

    fn forward(
        &self,
        q: &[f32],
        kv: &[f32],
        views: &Views,
        lengths: &[usize],
        key_lengths: &[usize],
    ) -> Vec<f32> {
        let (width, head) = (self.width, self.width / self.heads);
        let mut out = vec![0f32; self.rows * self.queries * width];
        let (q_row, kv_row) = (self.queries * views.query.stride, self.keys * views.key.stride);
        out.par_chunks_mut(self.queries * width).enumerate().for_each(|(row, out)| {
            let (q, kv) = (&q[row * q_row..][..q_row], &kv[row * kv_row..][..kv_row]);
            let mut weights = vec![0f32; key_lengths[row]];
            pulp::Arch::new().dispatch(|| {
                for i in 0..lengths[row] {
                    let weights = &mut weights[..self.mask.of(i, key_lengths[row])];
                    for start in (0..width).step_by(head) {
                        let query = &q[views.query.at(i, start)..][..head];
                        self.weights(query, kv, views.key, start, weights);
                        let out = &mut out[i * width + start..][..head];
                        for (j, &w) in weights.iter().enumerate() {
                            axpy(out, w, &kv[views.value.at(j, start)..][..head]);
                        }
                    }
                }
            });
        });
        out
    }

    /// Computes the gradients of one row. `add(part, index, a, x)` adds `a · x` to the gradient of that part, from
    /// `index`. Self-attention has one buffer for both parts, cross-attention one for each.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn backward_row(
        &self,
        q: &[f32],
        kv: &[f32],
        views: &Views,
        grad: &[f32],
        queries: usize,
        keys: usize,
        mut add: impl FnMut(Part, usize, f32, &[f32]),
    ) {
        let (width, head) = (self.width, self.width / self.heads);
        let scale = self.scale();
        let (mut weights, mut delta) = (vec![0f32; keys], vec![0f32; keys]);
        for i in 0..queries {
            let seen = self.mask.of(i, keys);
            let (weights, delta) = (&mut weights[..seen], &mut delta[..seen]);
            for start in (0..width).step_by(head) {
                let query = &q[views.query.at(i, start)..][..head];
                let grad = &grad[i * width + start..][..head];
                self.weights(query, kv, views.key, start, weights);
                for (j, d) in delta.iter_mut().enumerate() {
                    *d = dot(grad, &kv[views.value.at(j, start)..][..head]);
                }
                let mean = dot(delta, weights);
                for (j, (&w, &d)) in weights.iter().zip(&*delta).enumerate() {
                    let ds = w * (d - mean) * scale;
                    add(Part::Source, views.value.at(j, start), w, grad);
                    add(Part::Source, views.key.at(j, start), ds, query);
                    add(Part::Query, views.query.at(i, start), ds, &kv[views.key.at(j, start)..][..head]);
                }
            }
        }
    }
}

enum Part {
    Query,
    Source,
}

struct SelfOp {
    shape: Attention,
    lengths: Arc<[usize]>,
}

impl CustomOp1 for SelfOp {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        let qkv = values(qkv, layout)?;
        let out = s.forward(qkv, qkv, &s.self_views(), &self.lengths, &self.lengths);
        Ok((CpuStorage::F32(out), Shape::from((s.rows, s.queries, s.width))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let s = &self.shape;
        let (views, row_len) = (s.self_views(), s.queries * 3 * s.width);
        let dqkv = with_values(qkv, |qkv| {
            with_values(grad, |grad| {
                let mut out = vec![0f32; qkv.len()];
                out.par_chunks_mut(row_len).enumerate().for_each(|(row, out)| {
                    let qkv = &qkv[row * row_len..][..row_len];
                    let grad = &grad[row * s.queries * s.width..][..s.queries * s.width];
                    let len = self.lengths[row];
                    pulp::Arch::new().dispatch(|| {
                        s.backward_row(qkv, qkv, &views, grad, len, len, |_, at, a, x| {
                            axpy(&mut out[at..][..x.len()], a, x)
                        })
                    });
                });
                out
            })
        })??;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}

struct CrossOp {
    shape: Attention,
    lengths: Arc<[usize]>,
    source_lengths: Arc<[usize]>,
}

impl CustomOp2 for CrossOp {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        keys_values: &CpuStorage,
        keys_values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        let (q, kv) = (values(query, query_layout)?, values(keys_values, keys_values_layout)?);
        let out = s.forward(q, kv, &s.cross_views(), &self.lengths, &self.source_lengths);
        Ok((CpuStorage::F32(out), Shape::from((s.rows, s.queries, s.width))))
    }

    fn bwd(
        &self,
        query: &Tensor,
        keys_values: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let s = &self.shape;
        let (views, q_row, kv_row) = (s.cross_views(), s.queries * s.width, s.keys * 2 * s.width);
        let compute = |q: &[f32], kv: &[f32], grad: &[f32]| {
            let (mut dq, mut dkv) = (vec![0f32; q.len()], vec![0f32; kv.len()]);
            dq.par_chunks_mut(q_row).zip(dkv.par_chunks_mut(kv_row)).enumerate().for_each(
                |(row, (dq, dkv))| {
                    let (q, grad) = (&q[row * q_row..][..q_row], &grad[row * q_row..][..q_row]);
                    let kv = &kv[row * kv_row..][..kv_row];
                    let (queries, keys) = (self.lengths[row], self.source_lengths[row]);
                    pulp::Arch::new().dispatch(|| {
                        s.backward_row(q, kv, &views, grad, queries, keys, |part, at, a, x| match part {
                            Part::Query => axpy(&mut dq[at..][..x.len()], a, x),
                            Part::Source => axpy(&mut dkv[at..][..x.len()], a, x),
                        })
                    });
                },
            );
            (dq, dkv)
        };
        let (dq, dkv) = with_values(query, |q| {
            with_values(keys_values, |kv| with_values(grad, |grad| compute(q, kv, grad)))
        })???;
        Ok((
            Some(Tensor::from_vec(dq, query.shape(), query.device())?),
            Some(Tensor::from_vec(dkv, keys_values.shape(), keys_values.device())?),
        ))
    }
}
