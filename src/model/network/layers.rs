//! Layers of encoder and decoder, made of sublayers with a norm and a residual connection.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::model::{DecoderAttention, NormPlace, Shape};
use crate::nn::ops::AttentionMask;
use crate::nn::{CrossAttention, FeedForward, LayerNorm, Mode, SelfAttention, Source, Sublayer, chain};

/// The norm of a sublayer, before or after it.
#[derive(Clone, Debug)]
struct Norm {
    norm: LayerNorm,
    place: NormPlace,
}

impl Norm {
    fn load(shape: &Shape, vb: VarBuilder) -> Result<Self> {
        Ok(Self { norm: LayerNorm::load(shape.d_model, vb)?, place: shape.norm })
    }

    /// The norm, if it precedes the sublayer.
    fn in_front(&self) -> Option<&LayerNorm> {
        (self.place == NormPlace::Pre).then_some(&self.norm)
    }

    /// The input of the sublayer, from the residual stream `x`.
    fn before(&self, x: &Tensor) -> Result<Tensor> {
        match self.place {
            NormPlace::Pre => self.norm.forward(x),
            NormPlace::Post => Ok(x.clone()),
        }
    }

    /// The residual stream after the sublayer.
    fn after(&self, x: &Tensor, branch: &Tensor, mode: &Mode) -> Result<Tensor> {
        let x = mode.residual(x, branch)?;
        match self.place {
            NormPlace::Pre => Ok(x),
            NormPlace::Post => self.norm.forward(&x),
        }
    }
}

/// Self-attention as a sublayer.
#[derive(Clone, Debug)]
struct SelfAttentionSublayer {
    norm: Norm,
    attention: SelfAttention,
}

impl SelfAttentionSublayer {
    fn load(shape: &Shape, name: &str, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(shape, vb.pp(format!("{name}_norm")))?,
            attention: SelfAttention::load(shape.d_model, shape.heads, vb.pp(name))?,
        })
    }

    /// The sublayer for a [`chain`], or `None` if it cannot be fused. Only the shape of `x` is used.
    fn sublayer(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        mode: &Mode,
    ) -> Result<Option<Sublayer>> {
        match self.norm.in_front() {
            Some(norm) => self.attention.sublayer(norm, x, lengths, mask, mode),
            None => Ok(None),
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        mode: &Mode,
    ) -> Result<Tensor> {
        if let Some(own) = self.sublayer(x, lengths, mask, mode)? {
            return chain(x, None, vec![own]);
        }
        let branch = self.attention.forward(&self.norm.before(x)?, lengths, mask, mode)?;
        self.norm.after(x, &branch, mode)
    }
}

/// A feed-forward network as a sublayer.
#[derive(Clone, Debug)]
struct FeedForwardSublayer {
    norm: Norm,
    feed_forward: FeedForward,
}

impl FeedForwardSublayer {
    fn load(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(shape, vb.pp("feed_forward_norm"))?,
            feed_forward: FeedForward::load(shape.d_model, shape.ffn, vb.pp("feed_forward"))?,
        })
    }

    /// The sublayer for a [`chain`], or `None` if it cannot be fused. Only the shape of `x` is used.
    fn sublayer(&self, x: &Tensor, lengths: &Arc<[usize]>, mode: &Mode) -> Result<Option<Sublayer>> {
        match self.norm.in_front() {
            Some(norm) => self.feed_forward.sublayer(norm, x, lengths, mode),
            None => Ok(None),
        }
    }

    fn forward(&self, x: &Tensor, lengths: &Arc<[usize]>, mode: &Mode) -> Result<Tensor> {
        if let Some(own) = self.sublayer(x, lengths, mode)? {
            return chain(x, None, vec![own]);
        }
        let branch = self.feed_forward.forward(&self.norm.before(x)?, mode)?;
        self.norm.after(x, &branch, mode)
    }
}

#[derive(Clone, Debug)]
pub(super) struct EncoderLayer {
    attention: SelfAttentionSublayer,
    feed_forward: FeedForwardSublayer,
}

impl EncoderLayer {
    pub(super) fn load(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            attention: SelfAttentionSublayer::load(shape, "attention", vb)?,
            feed_forward: FeedForwardSublayer::load(shape, vb)?,
        })
    }

    /// Both sublayers for a [`chain`], or `None` if they cannot be fused. Only the shape of `x` is
    /// used.
    pub(super) fn sublayers(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mode: &Mode,
    ) -> Result<Option<[Sublayer; 2]>> {
        let attention = self.attention.sublayer(x, lengths, AttentionMask::Whole, mode)?;
        let Some(attention) = attention else { return Ok(None) };
        Ok(self.feed_forward.sublayer(x, lengths, mode)?.map(|feed_forward| [attention, feed_forward]))
    }

    pub(super) fn forward(&self, x: &Tensor, lengths: &Arc<[usize]>, mode: &Mode) -> Result<Tensor> {
        let x = self.attention.forward(x, lengths, AttentionMask::Whole, mode)?;
        self.feed_forward.forward(&x, lengths, mode)
    }
}

#[derive(Clone, Debug)]
pub(super) struct DecoderLayer {
    /// An additional self-attention over the whole canvas before the layer's own (CMLMC).
    whole: Option<SelfAttentionSublayer>,
    attention: SelfAttentionSublayer,
    cross_norm: Norm,
    cross: CrossAttention,
    feed_forward: FeedForwardSublayer,
}

impl DecoderLayer {
    pub(super) fn load(shape: &Shape, vb: &VarBuilder) -> Result<Self> {
        let whole = shape.decoder_attention == DecoderAttention::WholeThenCausal;
        Ok(Self {
            whole: whole.then(|| SelfAttentionSublayer::load(shape, "whole_attention", vb)).transpose()?,
            attention: SelfAttentionSublayer::load(shape, "attention", vb)?,
            cross_norm: Norm::load(shape, vb.pp("cross_norm"))?,
            cross: CrossAttention::load(shape.d_model, shape.heads, vb.pp("cross"))?,
            feed_forward: FeedForwardSublayer::load(shape, vb)?,
        })
    }

    /// Whether [`Self::sublayers`] is possible for states of the shape of `x`.
    pub(super) fn fuses(&self, x: &Tensor, mode: &Mode) -> bool {
        let pre_norm = self.cross_norm.in_front().is_some();
        pre_norm && self.cross.fuses(x, mode) && self.feed_forward.feed_forward.fuses(x, mode)
    }

    /// All sublayers for a [`chain`], or `None` if they cannot be fused. Only the shape of `x` is used. `mask` is the
    /// mask of the layer's own self-attention.
    pub(super) fn sublayers(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        (source, source_lengths): (Source, &Arc<[usize]>),
        mode: &Mode,
    ) -> Result<Option<Vec<Sublayer>>> {
        let mut sublayers = Vec::with_capacity(4);
        if let Some(whole) = &self.whole {
            sublayers.push(whole.sublayer(x, lengths, AttentionMask::Whole, mode)?);
        }
        sublayers.push(self.attention.sublayer(x, lengths, mask, mode)?);
        let cross = self
            .cross_norm
            .in_front()
            .map(|norm| self.cross.sublayer(norm, x, lengths, source, source_lengths, mode));
        sublayers.push(cross.transpose()?.flatten());
        sublayers.push(self.feed_forward.sublayer(x, lengths, mode)?);
        Ok(sublayers.into_iter().collect())
    }

    /// `mask` is the mask of the layer's own self-attention.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        mask: AttentionMask,
        source: (&Tensor, &Arc<[usize]>),
        mode: &Mode,
    ) -> Result<Tensor> {
        let whole = self.whole.as_ref().map(|whole| whole.forward(x, lengths, AttentionMask::Whole, mode));
        let x = self.attention.forward(whole.transpose()?.as_ref().unwrap_or(x), lengths, mask, mode)?;
        self.after_self_attention(&x, lengths, source, mode)
    }

    /// Applies self-attention to the next position of each row, `x [rows, 1, d]`. Returns its state and the extended
    /// past (see [`SelfAttention::next`]).
    pub(super) fn next(&self, x: &Tensor, past: Option<&Tensor>, mode: &Mode) -> Result<(Tensor, Tensor)> {
        let SelfAttentionSublayer { norm, attention } = &self.attention;
        let (branch, grown) = attention.next(&norm.before(x)?, past, mode)?;
        Ok((norm.after(x, &branch, mode)?, grown))
    }

    /// Applies the rest of the layer to `x [rows, target, d]`: cross-attention and feed-forward.
    pub(super) fn after_self_attention(
        &self,
        x: &Tensor,
        lengths: &Arc<[usize]>,
        (keys_values, source_lengths): (&Tensor, &Arc<[usize]>),
        mode: &Mode,
    ) -> Result<Tensor> {
        if let Some(norm) = self.cross_norm.in_front()
            && let Some(own) = self.cross.sublayer(
                norm,
                x,
                lengths,
                Source::KeysValues(keys_values),
                source_lengths,
                mode,
            )?
        {
            let x = chain(x, None, vec![own])?;
            return self.feed_forward.forward(&x, lengths, mode);
        }
        let query = self.cross_norm.before(x)?;
        let branch = self.cross.forward(&query, lengths, keys_values, source_lengths, mode)?;
        self.feed_forward.forward(&self.cross_norm.after(x, &branch, mode)?, lengths, mode)
    }

    /// Keys and values of encoder states, for [`after_self_attention`](Self::after_self_attention).
    pub(super) fn keys_values(&self, states: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.cross.keys_values(states, mode)
    }
}
