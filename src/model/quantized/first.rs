//! The part of the first pass that does not depend on the source.
//!
//! A canvas of masks is the same for every sentence, so the decoder's first layer up to its cross-attention depends on the
//! length of the canvas alone. It is computed once for each length.

use std::sync::OnceLock;

use super::QuantizedNetwork;
use super::block::Pass;
use super::scratch::Buffers;

/// Longest canvases, in tokens, that are remembered: 17 MB at a width of 256, if all were met.
const LONGEST: usize = 128;

/// For each length, once it was needed.
#[derive(Debug)]
pub(super) struct Beginnings(Vec<OnceLock<Beginning>>);

/// The rows of one canvas of masks in the first layer, just before the attention to the source.
#[derive(Debug)]
pub(super) struct Beginning {
    /// The residual stream, `[len, d]`.
    pub(super) x: Vec<f32>,
    /// The queries for the source, `[len, d]`.
    pub(super) queries: Vec<f32>,
}

impl Default for Beginnings {
    fn default() -> Self {
        Self((0..=LONGEST).map(|_| OnceLock::new()).collect())
    }
}

impl QuantizedNetwork {
    /// `bos, masks, eos`, or of an Imputer masks alone, short enough to be remembered. A decoder of one layer
    /// has no use for it.
    pub(super) fn is_first(&self, canvas: &[u32]) -> bool {
        let specials = self.specials();
        let masks = match canvas {
            masks if self.shape.has_blanks() => masks,
            [bos, masks @ .., eos] if (*bos, *eos) == (specials.bos, specials.eos) => masks,
            _ => return false,
        };
        canvas.len() <= LONGEST && self.decoder.len() > 1 && masks.iter().all(|&token| token == specials.mask)
    }

    /// For a canvas that [`is_first`](Self::is_first). On this thread.
    pub(super) fn beginning(&self, canvas: &[u32]) -> &Beginning {
        self.beginnings.0[canvas.len()].get_or_init(|| {
            let (d, starts) = (self.shape.d_model, [0, canvas.len()]);
            let pass = Pass { starts: &starts, keys: &starts, positions: None, d, threads: 1 };
            let mut beginning =
                Beginning { x: vec![0.0; canvas.len() * d], queries: vec![0.0; canvas.len() * d] };
            let Beginning { x, queries } = &mut beginning;
            self.with_buffers(|Buffers { now, next, .. }| {
                let qkv = now.take(canvas.len() * 3 * d);
                pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
                    self.embed(&[canvas], block, &self.decoder_input, x);
                    self.decoder[0].prepare(x, qkv, scratch);
                });
                self.look_at_whole(&self.decoder[0], &pass, x, now, next);
                let qkv = now.values(canvas.len() * 3 * d);
                pass.phase(x, queries, d, |block, x, queries, scratch| {
                    self.decoder[0].begin(x, block, qkv, queries, scratch);
                });
            });
            beginning
        })
    }
}
