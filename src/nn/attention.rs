//! The three sublayers of a transformer layer, without their norms and residuals.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::ops::AttentionMask;
use super::{Activation, LayerNorm, Linear, Mode, ops};

/// A sublayer that [`chain`] can compute with others in one op.
#[cfg(target_arch = "x86_64")]
pub type Sublayer = Box<dyn ops::fused::Sublayer>;
#[cfg(not(target_arch = "x86_64"))]
pub type Sublayer = std::convert::Infallible;

/// Applies sublayers one after the other to `x [rows, len, width]`, in one op.
pub fn chain(x: &Tensor, sublayers: Vec<Sublayer>) -> Result<Tensor> {
    #[cfg(target_arch = "x86_64")]
    return ops::fused::chain(x, sublayers);
    #[cfg(not(target_arch = "x86_64"))]
    return Ok(x.clone());
}

/// Self-attention over the real positions of each row. One product computes queries, keys and values.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    qkv: Linear,
    output: Linear,
    heads: usize,
}

impl SelfAttention {
    pub fn load(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        let qkv = Linear::load(width, 3 * width, Activation::None, vb.pp("qkv"))?;
        let output = Linear::load(width, width, Activation::None, vb.pp("output"))?;
        Ok(Self { qkv, output, heads })
    }

    /// `x` is `[rows, len, width]`; the first `lengths[i]` positions of row `i` are real.
    pub fn forward(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        mode: &Mode,
    ) -> Result<Tensor> {
        let mixed = ops::self_attention(&self.qkv.forward(x, mode)?, lengths, self.heads, mask)?;
        self.output.forward(&mixed, mode)
    }

    /// `x + dropout(self.forward(norm(x)))` as a sublayer for [`chain`], or `None` if it cannot be fused. Only the
    /// shape of `x` is used.
    pub fn sublayer(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        mode: &Mode,
    ) -> Result<Option<Sublayer>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(frame) = frame(norm, x, lengths, self.heads, &[], mode)? {
            let (qkv, output) = (self.qkv.affine(), self.output.affine());
            return ops::fused::self_attention_sublayer(x, &frame, qkv, output, self.heads, mask).map(Some);
        }
        let _ = (norm, x, lengths, mask, mode);
        Ok(None)
    }

    /// Applies attention to one more position of each row, `x [rows, 1, width]`. It attends to itself and the `t`
    /// positions before it, whose keys and values are `past [rows, t, 2 · width]`. Returns the result and the
    /// extended past.
    pub fn next(&self, x: &Tensor, past: Option<&Tensor>, mode: &Mode) -> Result<(Tensor, Tensor)> {
        let (rows, _, width) = x.dims3()?;
        let qkv = self.qkv.forward(x, mode)?;
        let own = qkv.narrow(2, width, 2 * width)?;
        let past = past.map_or_else(|| own.contiguous(), |past| ops::append(past, &own))?;
        let (one, all) = (vec![1; rows].into(), vec![past.dim(1)?; rows].into());
        let mixed = ops::cross_attention(&qkv.narrow(2, 0, width)?, &past, &one, &all, self.heads)?;
        Ok((self.output.forward(&mixed, mode)?, past))
    }
}

/// Attention from target positions to source positions.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    query: Linear,
    key_value: Linear,
    output: Linear,
    heads: usize,
}

impl CrossAttention {
    pub fn load(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        let query = Linear::load(width, width, Activation::None, vb.pp("query"))?;
        let key_value = Linear::load(width, 2 * width, Activation::None, vb.pp("key_value"))?;
        let output = Linear::load(width, width, Activation::None, vb.pp("output"))?;
        Ok(Self { query, key_value, output, heads })
    }

    /// Keys and values of the source, side by side. They are the same for every decoding step: `memory [rows, source,
    /// width] -> [rows, source, 2 · width]`.
    pub fn keys_values(&self, memory: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.key_value.forward(memory, mode)
    }

    /// `x` is `[rows, target, width]`, `keys_values` is `[rows, source, 2 · width]`.
    pub fn forward(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        keys_values: &Tensor,
        source_lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Tensor> {
        let query = self.query.forward(x, mode)?;
        let mixed = ops::cross_attention(&query, keys_values, lengths, source_lengths, self.heads)?;
        self.output.forward(&mixed, mode)
    }

    /// `x + dropout(self.forward(norm(x)))` in one op, or `None` if it cannot be fused.
    pub fn sublayer(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        keys_values: &Tensor,
        source_lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Option<Tensor>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(frame) = frame(norm, x, lengths, self.heads, &[], mode)? {
            let (query, output, heads) = (self.query.affine(), self.output.affine(), self.heads);
            let fused = ops::fused::cross_attention_sublayer;
            return fused(x, keys_values, source_lengths, &frame, query, output, heads).map(Some);
        }
        let _ = (norm, x, lengths, keys_values, source_lengths, mode);
        Ok(None)
    }
}

/// Norm, lengths and dropout of a sublayer on `x`, or `None` if it cannot be fused.
#[cfg(target_arch = "x86_64")]
fn frame<'a>(
    norm: &'a LayerNorm,
    x: &Tensor,
    lengths: &'a [usize],
    heads: usize,
    widths: &[usize],
    mode: &Mode,
) -> Result<Option<ops::fused::Frame<'a>>> {
    let width = x.dim(candle_core::D::Minus1)?;
    let widths = [widths, &[width, width / heads]].concat();
    if !width.is_multiple_of(heads) || !ops::fused::fused(x, mode.precision(), &widths) {
        return Ok(None);
    }
    let (gain, bias, eps) = norm.parts();
    Ok(Some(ops::fused::Frame { gain, bias, eps, lengths, dropout: mode.next_dropout() }))
}

/// `W₂ · relu(W₁ · x)`
#[derive(Clone, Debug)]
pub struct FeedForward {
    inner: Linear,
    outer: Linear,
}

impl FeedForward {
    pub fn load(width: usize, inner: usize, vb: VarBuilder) -> Result<Self> {
        let outer = Linear::load(inner, width, Activation::None, vb.pp("outer"))?;
        let inner = Linear::load(width, inner, Activation::Relu, vb.pp("inner"))?;
        Ok(Self { inner, outer })
    }

    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.outer.forward(&self.inner.forward(x, mode)?, mode)
    }

    /// As [`SelfAttention::sublayer`]. Row `i` of `x` has `lengths[i]` real positions; results at other positions are
    /// 0.
    pub fn sublayer(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Option<Sublayer>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(frame) = frame(norm, x, lengths, 1, &[self.inner.width()?], mode)? {
            let (inner, outer) = (self.inner.affine(), self.outer.affine());
            return ops::fused::feed_forward_sublayer(x, &frame, inner, outer).map(Some);
        }
        let _ = (norm, x, lengths, mode);
        Ok(None)
    }
}
