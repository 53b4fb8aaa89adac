//! The decoder's pass.

use super::QuantizedNetwork;
use super::block::{Block, Pass, by_groups, starts};
use super::layers::SentenceKeys;
use super::scratch::Buffers;
use crate::nn::int8::{Attention, Strided};
use crate::{Error, Result};

/// One row of a decoder pass.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    pub ids: &'a [u32],
    /// Positions in `ids` whose prediction is wanted.
    pub wanted: &'a [usize],
    pub keys: &'a SentenceKeys,
}

impl QuantizedNetwork {
    /// One decoder pass: the best token and its log-probability for each wanted position, row after row.
    ///
    /// # Errors
    /// As [`Self::encode_sentences`], and for a wanted position outside its canvas.
    pub fn predict(&self, canvases: &[Canvas]) -> Result<Vec<(u32, f32)>> {
        canvases.iter().try_for_each(|canvas| self.check(canvas.ids))?;
        if canvases.iter().any(|c| c.wanted.iter().any(|&p| p >= c.ids.len())) {
            return Err(Error::Model("a prediction is wanted outside the canvas".into()));
        }
        let places = starts(canvases.iter().map(|canvas| canvas.wanted.len()));
        let mut answers = vec![(0, 0.0); places.last().copied().unwrap_or(0)];
        let kinds = [true, false].map(|first| -> Vec<usize> {
            (0..canvases.len()).filter(|&i| self.is_first(canvases[i].ids) == first).collect()
        });
        for (own, first) in kinds.iter().zip([true, false]).filter(|(own, _)| !own.is_empty()) {
            let canvases: Vec<Canvas> = own.iter().map(|&i| canvases[i]).collect();
            let mut predicted = self.predict_kind(&canvases, first).into_iter().flatten();
            for &i in own {
                answers[places[i]..places[i + 1]].iter_mut().zip(&mut predicted).for_each(|(a, b)| *a = b);
            }
        }
        Ok(answers)
    }

    /// All canvases are, or none is, one of a first pass.
    fn predict_kind(&self, canvases: &[Canvas], first: bool) -> Vec<Vec<(u32, f32)>> {
        let lengths: Vec<usize> = canvases.iter().map(|canvas| canvas.ids.len()).collect();
        by_groups(&lengths, |group, threads| {
            let canvases = &canvases[group];
            self.with_buffers(|buffers| self.decoder_pass(canvases, first, threads, buffers))
        })
    }

    pub(super) fn decoder_pass(
        &self,
        canvases: &[Canvas],
        first: bool,
        threads: usize,
        buffers: &mut Buffers,
    ) -> Vec<(u32, f32)> {
        let d = self.shape.d_model;
        let all = starts(canvases.iter().map(|canvas| canvas.ids.len()));
        let pass = Pass { starts: &all, keys: &all, d, threads };
        let memory = |layer: usize| {
            let heads = self.decoder[layer].heads();
            move |sentence: usize| canvases[sentence].keys.attention(layer, heads)
        };
        let rows = pass.rows();
        let Buffers { x, now, next, last, queries, wanted } = buffers;
        let x = x.take(rows * d);
        let done = self.begin(canvases, first, &pass, x, now.take(rows * 3 * d), memory);
        let (through, [final_layer]) = self.decoder[done..].split_at(self.decoder.len() - 1 - done) else {
            return Vec::new();
        };
        for (i, layer) in through.iter().enumerate() {
            let qkv = now.values(rows * 3 * d);
            pass.phase(x, next.take(rows * 3 * d), 3 * d, |block, x, out, scratch| {
                layer.run(x, block, qkv, memory(done + i), scratch);
                self.decoder[done + i + 1].prepare(x, out, scratch);
            });
            std::mem::swap(now, next);
        }
        // The last layer's rows look at all others, but only those that are wanted are looked at after it.
        let some = starts(canvases.iter().map(|canvas| canvas.wanted.len()));
        let pass = Pass { starts: &some, keys: &all, d, threads };
        let qkv = now.values(rows * 3 * d);
        let last = last.take(pass.rows() * d);
        let queries = queries.take(pass.rows() * d);
        let places = canvases.iter().zip(&all).flat_map(|(c, start)| c.wanted.iter().map(move |p| start + p));
        for ((place, last), query) in places.zip(last.chunks_exact_mut(d)).zip(queries.chunks_exact_mut(d)) {
            last.copy_from_slice(&x[place * d..][..d]);
            query.copy_from_slice(&qkv[place * 3 * d..][..d]);
        }
        let queries = Strided { data: queries, stride: d };
        pass.phase(last, &mut [], 0, |block, x, _, scratch| {
            final_layer.run_some(x, block, queries, qkv, memory(self.decoder.len() - 1), scratch);
        });
        wanted.quantize_normed(last, &self.decoder_norm);
        self.output.best_tokens(wanted, self.forbidden(), threads)
    }

    /// Fills `x` and the next layer's `qkv`; answers how many layers are done.
    fn begin<'m, M: Fn(usize) -> Attention<'m>>(
        &self,
        canvases: &[Canvas],
        first: bool,
        pass: &Pass,
        x: &mut [f32],
        qkv: &mut [f32],
        memory: impl Fn(usize) -> M + Sync,
    ) -> usize {
        let d = self.shape.d_model;
        if !first {
            let ids: Vec<&[u32]> = canvases.iter().map(|c| c.ids).collect();
            pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
                self.embed(&ids, block, &self.decoder_positions, x);
                self.decoder[0].prepare(x, qkv, scratch);
            });
            return 0;
        }
        pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
            let mut queries = std::mem::take(&mut scratch.queries);
            let of_rows = queries.take(x.len());
            self.remember(canvases, block, x, of_rows);
            self.decoder[0].finish(x, block, of_rows, memory(0), scratch);
            scratch.queries = queries;
            self.decoder[1].prepare(x, qkv, scratch);
        });
        1
    }

    /// What [`Self::beginning`] has for the rows of a block.
    fn remember(&self, canvases: &[Canvas], block: &Block, x: &mut [f32], queries: &mut [f32]) {
        let d = self.shape.d_model;
        for part in block.parts() {
            let known = self.beginning(canvases[part.index].ids);
            let own = (part.rows.start - block.rows.start) * d..(part.rows.end - block.rows.start) * d;
            let positions = part.positions().start * d..part.positions().end * d;
            x[own.clone()].copy_from_slice(&known.x[positions.clone()]);
            queries[own].copy_from_slice(&known.queries[positions]);
        }
    }
}
