//! The decoder pass.

use super::QuantizedNetwork;
use super::block::{Block, QuantizedPass, by_groups, starts};
use super::layers::{DecoderLayer, SentenceKeys};
use super::scratch::Buffers;
use crate::nn::int8::{Attention, Buffer, Input, Rows, Strided};
use crate::{Error, Result};

/// One row of a decoder pass.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedCanvas<'a> {
    pub ids: &'a [u32],
    /// Indices into `ids` of the positions to predict.
    pub wanted: &'a [usize],
    pub keys: &'a SentenceKeys,
}

impl QuantizedNetwork {
    /// Runs a decoder pass. Returns the best token and its log-probability for each wanted position, row after row.
    ///
    /// # Errors
    /// As [`Self::encode_sentences`], and for a wanted position outside its canvas.
    pub fn predict(&self, canvases: &[QuantizedCanvas]) -> Result<Vec<(u32, f32)>> {
        Ok(self.predict_top::<1>(canvases)?.into_iter().flatten().collect())
    }

    /// Like [`Self::predict`], with the N best tokens of each wanted position, best first. The first of them equals
    /// that of [`Self::predict`], bit for bit.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn predict_top<const N: usize>(&self, canvases: &[QuantizedCanvas]) -> Result<Vec<[(u32, f32); N]>>
    where
        [(u32, f32); N]: Default,
    {
        self.at_wanted(canvases, 1, |canvases, last, wanted, threads| {
            let Some(shortlist) = &self.shortlist_weights else {
                self.quantize_last(last, wanted);
                return self.output.top_tokens(wanted, self.forbidden(), threads);
            };
            let mut best = Vec::with_capacity(last.len() / self.shape.d_model);
            let mut rest: &[f32] = last;
            for canvas in canvases {
                let (rows, after) = rest.split_at(canvas.wanted.len() * self.shape.d_model);
                self.quantize_last(rows, wanted);
                best.extend(self.candidates(shortlist, canvas.keys).top_tokens(wanted));
                rest = after;
            }
            best
        })
    }

    /// Quantizes the states of the last layer for the output product.
    fn quantize_last(&self, last: &[f32], rows: &mut Rows) {
        match &self.decoder_norm {
            Some(norm) => rows.quantize_normed(last, norm),
            None => rows.quantize(last, self.shape.d_model, Input::Signed),
        }
    }

    /// Runs a decoder pass. Returns the last states, after the final norm, of each wanted position, row after row:
    /// `[wanted, d]`. Teachers need them for soft targets.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn states(&self, canvases: &[QuantizedCanvas]) -> Result<Vec<f32>> {
        self.at_wanted(canvases, self.shape.d_model, |_, last, _, _| {
            if let Some(norm) = &self.decoder_norm {
                norm.apply(last);
            }
            last.to_vec()
        })
    }

    /// The best token and its log-probability for each row of `states`, the output of [`Self::states`].
    ///
    /// # Errors
    /// [`Error::Model`] if `states` does not consist of whole rows.
    pub fn best_of(&self, states: &[f32]) -> Result<Vec<(u32, f32)>> {
        if !states.len().is_multiple_of(self.shape.d_model) {
            return Err(Error::Model(format!("{} values do not make whole rows of states", states.len())));
        }
        Ok(self.with_buffers(|buffers| {
            let rows = &mut buffers.wanted;
            rows.quantize(states, self.shape.d_model, Input::Signed);
            self.output.best_tokens(rows, self.forbidden(), rayon::current_num_threads())
        }))
    }

    /// Runs a pass. `answer` computes `width` values for each wanted position from the rows of the last layer.
    fn at_wanted<T: Copy + Default + Send>(
        &self,
        canvases: &[QuantizedCanvas],
        width: usize,
        answer: impl Fn(&[QuantizedCanvas], &mut [f32], &mut Rows, usize) -> Vec<T> + Sync,
    ) -> Result<Vec<T>> {
        canvases.iter().try_for_each(|canvas| self.shape.check_row(canvas.ids))?;
        if canvases.iter().any(|c| c.wanted.iter().any(|&p| p >= c.ids.len())) {
            return Err(Error::Model("a wanted position is outside the canvas".into()));
        }
        let places = starts(canvases.iter().map(|canvas| canvas.wanted.len() * width));
        let mut answers = vec![T::default(); places.last().copied().unwrap_or(0)];
        let kinds = [true, false].map(|first| -> Vec<usize> {
            (0..canvases.len()).filter(|&i| self.is_first(canvases[i].ids) == first).collect()
        });
        for (own, first) in kinds.iter().zip([true, false]).filter(|(own, _)| !own.is_empty()) {
            // Either all or none of these canvases are of a first pass.
            let canvases: Vec<QuantizedCanvas> = own.iter().map(|&i| canvases[i]).collect();
            let lengths: Vec<usize> = canvases.iter().map(|canvas| canvas.ids.len()).collect();
            let groups = by_groups(&lengths, |group, threads| {
                let canvases = &canvases[group];
                self.with_buffers(|buffers| self.decoder_pass(canvases, first, threads, buffers, &answer))
            });
            let mut answered = groups.into_iter().flatten();
            for &i in own {
                answers[places[i]..places[i + 1]].iter_mut().zip(&mut answered).for_each(|(a, b)| *a = b);
            }
        }
        Ok(answers)
    }

    pub(super) fn decoder_pass<T>(
        &self,
        canvases: &[QuantizedCanvas],
        first: bool,
        threads: usize,
        buffers: &mut Buffers,
        answer: impl Fn(&[QuantizedCanvas], &mut [f32], &mut Rows, usize) -> Vec<T>,
    ) -> Vec<T> {
        let d = self.shape.d_model;
        let all = starts(canvases.iter().map(|canvas| canvas.ids.len()));
        let pass = QuantizedPass { starts: &all, keys: &all, positions: None, d, threads };
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
            self.attend_to_whole(layer, &pass, x, now, next);
            let qkv = now.values(rows * 3 * d);
            pass.phase(x, next.take(rows * 3 * d), 3 * d, |block, x, out, scratch| {
                layer.run(x, block, qkv, memory(done + i), scratch);
                self.decoder[done + i + 1].prepare(x, out, scratch);
            });
            std::mem::swap(now, next);
        }
        self.attend_to_whole(final_layer, &pass, x, now, next);
        // In the last layer all rows are keys and values, but only the wanted ones are queries.
        let some = starts(canvases.iter().map(|canvas| canvas.wanted.len()));
        let positions: Vec<usize> = canvases.iter().flat_map(|canvas| canvas.wanted).copied().collect();
        let pass = QuantizedPass { starts: &some, keys: &all, positions: Some(&positions), d, threads };
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
        answer(canvases, last, wanted, threads)
    }

    /// Applies the additional self-attention before a layer's own, if it has one. It replaces the queries, keys and
    /// values in `now` by those of the layer's own.
    pub(super) fn attend_to_whole(
        &self,
        layer: &DecoderLayer,
        pass: &QuantizedPass,
        x: &mut [f32],
        now: &mut Buffer,
        next: &mut Buffer,
    ) {
        let Some(whole) = layer.whole() else { return };
        let values = pass.rows() * 3 * self.shape.d_model;
        let qkv = now.values(values);
        pass.phase(x, next.take(values), 3 * self.shape.d_model, |block, x, out, scratch| {
            whole.run(x, block, whole.queries(qkv), qkv, scratch);
            layer.prepare_own(x, out, scratch);
        });
        std::mem::swap(now, next);
    }

    /// Computes `x` and the next layer's `qkv`. Returns the number of layers that are done.
    fn begin<'m, M: Fn(usize) -> Attention<'m>>(
        &self,
        canvases: &[QuantizedCanvas],
        first: bool,
        pass: &QuantizedPass,
        x: &mut [f32],
        qkv: &mut [f32],
        memory: impl Fn(usize) -> M + Sync,
    ) -> usize {
        let d = self.shape.d_model;
        if !first {
            let ids: Vec<&[u32]> = canvases.iter().map(|c| c.ids).collect();
            pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
                self.embed(&ids, block, &self.decoder_input, x);
                self.decoder[0].prepare(x, qkv, scratch);
            });
            return 0;
        }
        pass.phase(x, qkv, 3 * d, |block, x, qkv, scratch| {
            let mut queries = std::mem::take(&mut scratch.queries);
            let of_rows = queries.take(x.len());
            self.copy_first_layer_rows(canvases, block, x, of_rows);
            self.decoder[0].finish(x, block, of_rows, memory(0), scratch);
            scratch.queries = queries;
            self.decoder[1].prepare(x, qkv, scratch);
        });
        1
    }

    /// Copies the rows of [`Self::first_layer_rows`] for a block.
    fn copy_first_layer_rows(
        &self,
        canvases: &[QuantizedCanvas],
        block: &Block,
        x: &mut [f32],
        queries: &mut [f32],
    ) {
        let d = self.shape.d_model;
        for part in block.parts() {
            let cached = self.first_layer_rows(canvases[part.index].ids);
            let own = (part.rows.start - block.rows.start) * d..(part.rows.end - block.rows.start) * d;
            let positions = part.places().start * d..part.places().end * d;
            x[own.clone()].copy_from_slice(&cached.x[positions.clone()]);
            queries[own].copy_from_slice(&cached.queries[positions]);
        }
    }
}
