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

/// Applies sublayers one after the other to `x [rows, len, width]`, in one op. `memory [rows, source, width]` is what
/// those with [`Source::Memory`] read.
pub fn chain(x: &Tensor, memory: Option<&Tensor>, sublayers: Vec<Sublayer>) -> Result<Tensor> {
    #[cfg(target_arch = "x86_64")]
    return ops::fused::chain(x, memory, sublayers);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (memory, sublayers);
        Ok(x.clone())
    }
}

/// What cross-attention reads of the source.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Keys and values, see [`CrossAttention::keys_values`].
    KeysValues(&'a Tensor),
    /// The memory of a [`chain`], of which the sublayer makes keys and values: `[rows, source, width]`.
    Memory(&'a Tensor),
}

impl Source<'_> {
    /// Whether these are keys and values that need a gradient, which fused sublayers do not compute.
    pub fn needs_composed_layers(self) -> bool {
        matches!(self, Self::KeysValues(values) if values.track_op())
    }
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

    /// As [`SelfAttention::sublayer`]; also `None` for keys and values that need a gradient.
    pub fn sublayer(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        source: Source,
        source_lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Option<Sublayer>> {
        if source.needs_composed_layers() {
            return Ok(None);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(frame) = frame(norm, x, lengths, self.heads, &[], mode)? {
            let (query, output, heads) = (self.query.affine(), self.output.affine(), self.heads);
            let (own, padded) = match source {
                Source::KeysValues(values) => {
                    (ops::fused::Source::KeysValues(values.clone()), values.dim(1)?)
                }
                Source::Memory(memory) => {
                    (ops::fused::Source::Memory(self.key_value.affine()), memory.dim(1)?)
                }
            };
            let (fused, sources) = (ops::fused::cross_attention_sublayer, (&source_lengths[..], padded));
            return fused(x, own, sources, &frame, query, output, heads).map(Some);
        }
        let _ = (norm, x, lengths, source_lengths, mode);
        Ok(None)
    }

    /// Whether [`Self::sublayer`] is possible for states of the shape of `x`.
    pub fn fuses(&self, x: &Tensor, mode: &Mode) -> bool {
        fuses(x, self.heads, &[], mode)
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
    if !fuses(x, heads, widths, mode) {
        return Ok(None);
    }
    let (gain, bias, eps) = norm.parts();
    Ok(Some(ops::fused::Frame { gain, bias, eps, lengths, dropout: mode.next_dropout() }))
}

#[cfg(target_arch = "x86_64")]
fn fuses(x: &Tensor, heads: usize, widths: &[usize], mode: &Mode) -> bool {
    x.dim(candle_core::D::Minus1).is_ok_and(|width| {
        let widths = [widths, &[width, width / heads]].concat();
        width.is_multiple_of(heads) && ops::fused::fused(x, mode.precision(), &widths)
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn fuses(_x: &Tensor, _heads: usize, _widths: &[usize], _mode: &Mode) -> bool {
    false
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

    /// As [`CrossAttention::fuses`].
    pub fn fuses(&self, x: &Tensor, mode: &Mode) -> bool {
        self.inner.width().is_ok_and(|inner| fuses(x, 1, &[inner], mode))
    }
}
