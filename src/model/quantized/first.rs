//! The part of the first pass that does not depend on the source.
//!
//! A canvas of masks is the same for every sentence of its length. So the decoder's first layer, up to its
//! cross-attention, depends only on the length, and is computed once for each length.

use std::sync::OnceLock;

use super::QuantizedNetwork;
use super::block::QuantizedPass;
use super::scratch::Buffers;

/// Longest canvas that is cached, in tokens. All lengths together take 17 MB at a width of 256.
const MAX_CACHED_LEN: usize = 128;

/// One for each length, computed when first needed.
#[derive(Debug)]
pub(super) struct FirstLayerCache(Vec<OnceLock<FirstLayerRows>>);

/// The rows of a canvas of masks in the first layer, just before cross-attention.
#[derive(Debug)]
pub(super) struct FirstLayerRows {
    /// The residual stream, `[len, d]`.
    pub(super) x: Vec<f32>,
    /// The queries of cross-attention, `[len, d]`.
    pub(super) queries: Vec<f32>,
}

impl Default for FirstLayerCache {
    fn default() -> Self {
        Self((0..=MAX_CACHED_LEN).map(|_| OnceLock::new()).collect())
    }
}

impl QuantizedNetwork {
    /// Whether a canvas is `bos, masks, eos` (for an Imputer: only masks) and short enough for the cache. A decoder
    /// of one layer does not use the cache.
    pub(super) fn is_first(&self, canvas: &[u32]) -> bool {
        let specials = self.specials();
        let masks = match canvas {
            masks if self.shape.has_blanks() => masks,
            [bos, masks @ .., eos] if (*bos, *eos) == (specials.bos, specials.eos) => masks,
            _ => return false,
        };
        canvas.len() <= MAX_CACHED_LEN
            && self.decoder.len() > 1
            && masks.iter().all(|&token| token == specials.mask)
    }

    /// The cached rows for a canvas that [`is_first`](Self::is_first). Computed on the current thread.
    pub(super) fn first_layer_rows(&self, canvas: &[u32]) -> &FirstLayerRows {
        self.first_layer_cache.0[canvas.len()].get_or_init(|| {
            let (d, starts) = (self.shape.d_model, [0, canvas.len()]);
            let pass = QuantizedPass { starts: &starts, keys: &starts, positions: None, d, threads: 1 };
            let mut cached =
                FirstLayerRows { x: vec![0.0; canvas.len() * d], queries: vec![0.0; canvas.len() * d] };
            let FirstLayerRows { x, queries } = &mut cached;
            self.with_buffers(|Buffers { now, next, .. }| {
                let qkv = now.take(canvas.len() * 3 * d);
                pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
                    self.embed(&[canvas], block, &self.decoder_input, x);
                    self.decoder[0].prepare(x, qkv, scratch);
                });
                self.attend_to_whole(&self.decoder[0], &pass, x, now, next);
                let qkv = now.values(canvas.len() * 3 * d);
                pass.phase(x, queries, d, |block, x, queries, scratch| {
                    self.decoder[0].begin(x, block, qkv, queries, scratch);
                });
            });
            cached
        })
    }
}
