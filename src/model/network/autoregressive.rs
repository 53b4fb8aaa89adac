//! The network with a causal decoder (Vaswani et al. 2017): each position attends to itself and those before it.
//! Training decodes whole targets at once; search decodes one token at a time with cached keys and values.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{DecoderAttention, Memory, Network, Padded, normed};
use crate::nn::Mode;
use crate::nn::ops::AttentionMask;

/// Keys and values of the target so far.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// For each decoder layer `[rows, len, 2 · d]`; empty before the first token.
    layers: Vec<Tensor>,
    len: usize,
}

impl Past {
    /// Number of tokens so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps these rows, in this order; a row may be repeated.
    pub fn select(&mut self, rows: &[u32]) -> Result<()> {
        for layer in &mut self.layers {
            let index = Tensor::from_slice(rows, rows.len(), layer.device())?;
            *layer = layer.index_select(&index, 0)?;
        }
        Ok(())
    }
}

impl Memory {
    /// Keeps these sentences, in this order.
    pub fn select(&mut self, sentences: &[u32]) -> Result<()> {
        self.map(|tensor| {
            let index = Tensor::from_slice(sentences, sentences.len(), tensor.device())?;
            tensor.index_select(&index, 0)
        })?;
        self.lengths = sentences.iter().map(|&s| self.lengths[s as usize]).collect();
        Ok(())
    }
}

impl Network {
    /// Decoder states of `bos y1..yn`, `[rows, target, d]`. The state at a position predicts the next token.
    pub fn decode_causal(&self, target: &Padded, memory: &Memory, mode: &Mode) -> Result<Tensor> {
        self.require_causal()?;
        self.decode_with(AttentionMask::Causal, target, memory, mode)
    }

    /// Decodes one more token of each row: states `[rows, d]`; `past` grows by one token. Every sentence of `memory`
    /// has the same number of consecutive rows.
    pub fn decode_next(
        &self,
        tokens: &[u32],
        past: &mut Past,
        memory: &Memory,
        mode: &Mode,
    ) -> Result<Tensor> {
        self.require_causal()?;
        let (rows, sentences) = (tokens.len(), memory.lengths.len());
        if sentences == 0 || !rows.is_multiple_of(sentences) {
            candle_core::bail!("{rows} rows are not a multiple of {sentences} sentences");
        }
        let (beam, d) = (rows / sentences, self.shape.d_model);
        let beams: Arc<[usize]> = vec![beam; sentences].into();
        let ids = Tensor::from_slice(tokens, (rows, 1), &self.device)?;
        let mut x = self.embed(&ids, past.len, &self.decoder_input, mode)?;
        let mut layers = Vec::with_capacity(self.decoder.len());
        for (i, (layer, keys_values)) in self.decoder.iter().zip(memory.layers()?).enumerate() {
            let (seen, grown) = layer.next(&x, past.layers.get(i), mode)?;
            layers.push(grown);
            // The rows of a sentence are queries to the same keys and values.
            let row = seen.reshape((sentences, beam, d))?;
            let source = (keys_values, &memory.lengths);
            x = layer.after_self_attention(&row, &beams, source, mode)?.reshape((rows, 1, d))?;
        }
        *past = Past { layers, len: past.len + 1 };
        normed(&self.decoder_norm, x)?.reshape((rows, d))
    }

    /// A layer that attends to the whole canvas would see later tokens.
    fn require_causal(&self) -> Result<()> {
        match self.shape.decoder_attention {
            DecoderAttention::Whole => Ok(()),
            DecoderAttention::WholeThenCausal => {
                candle_core::bail!(
                    "a decoder that attends to the whole canvas cannot read from left to right"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
