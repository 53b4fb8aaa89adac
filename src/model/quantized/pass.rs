//! A pass over packed rows, phase by phase.

use std::cell::Cell;

use rayon::prelude::*;

use super::QuantizedNetwork;
use super::layers::{Block, SentenceKeys};
use super::scratch::{Buffers, Scratch};
use crate::nn::int8::{Input, Then};
use crate::{Error, Result};

/// Most rows of a block: their activations fit the second cache.
const MOST_ROWS: usize = 112;
/// Below this a block is not worth another thread: each reads all weights.
const LEAST_ROWS: usize = 4;

/// One row of a decoder pass.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    pub ids: &'a [u32],
    /// Positions in `ids` whose prediction is wanted.
    pub wanted: &'a [usize],
    pub keys: &'a SentenceKeys,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl QuantizedNetwork {
    /// For each sentence what decoder passes read of it, and the scores of its length classes.
    ///
    /// # Errors
    /// [`Error::Model`] for an empty sentence, one beyond `max_positions`, or an unknown id.
    pub fn encode_sentences(&self, sources: &[&[u32]]) -> Result<Vec<(SentenceKeys, Vec<f32>)>> {
        let starts = self.check(sources.iter().copied())?;
        Ok(in_pool(|| self.with_buffers(|buffers| self.encoder_pass(sources, &starts, buffers))))
    }

    fn encoder_pass(
        &self,
        sources: &[&[u32]],
        starts: &[usize],
        buffers: &mut Buffers,
    ) -> Vec<(SentenceKeys, Vec<f32>)> {
        let (d, layers) = (self.shape.d_model, &self.encoder);
        let pass = Pass { starts, d };
        let keys_width = self.keys_values.outputs();
        let Buffers { x, now, next, .. } = buffers;
        x.resize(pass.rows() * d, 0.0);
        pass.phase(x, now, 3 * d, |block, x, qkv, scratch| {
            self.embed(sources, block, &self.encoder_positions, x);
            layers[0].prepare(x, qkv, scratch);
        });
        for (i, layer) in layers.iter().enumerate() {
            let following = layers.get(i + 1);
            let width = if following.is_some() { 3 * d } else { keys_width };
            let qkv = &now[..];
            pass.phase(x, next, width, |block, x, out, scratch| {
                layer.run(x, block, qkv, scratch);
                match following {
                    Some(following) => following.prepare(x, out, scratch),
                    None => {
                        scratch.rows.fill(block.rows.len(), d, Input::Signed, |i, row| {
                            let x = &mut x[i * d..][..d];
                            self.encoder_norm.apply(x, row);
                            x.copy_from_slice(row);
                        });
                        self.keys_values.forward(&scratch.rows, Then::Store, out);
                    }
                }
            });
            std::mem::swap(now, next);
        }
        let sentence = |ends: &[usize]| {
            let keys = &now[ends[0] * keys_width..ends[1] * keys_width];
            let keys = SentenceKeys::new(keys, self.shape.decoder_layers, d);
            (keys, self.length_scores(&x[ends[0] * d..ends[1] * d]))
        };
        if sources.len() == 1 {
            starts.windows(2).map(sentence).collect()
        } else {
            starts.par_windows(2).map(sentence).collect()
        }
    }

    /// One decoder pass: the best token and its log-probability for each wanted position, row after row.
    ///
    /// # Errors
    /// As [`Self::encode_sentences`], and for a wanted position outside its canvas.
    pub fn predict(&self, canvases: &[Canvas]) -> Result<Vec<(u32, f32)>> {
        let starts = self.check(canvases.iter().map(|c| c.ids))?;
        if canvases.iter().any(|c| c.wanted.iter().any(|&p| p >= c.ids.len())) {
            return Err(Error::Model("a prediction is wanted outside the canvas".into()));
        }
        Ok(in_pool(|| self.with_buffers(|buffers| self.decoder_pass(canvases, &starts, buffers))))
    }

    fn decoder_pass(&self, canvases: &[Canvas], starts: &[usize], buffers: &mut Buffers) -> Vec<(u32, f32)> {
        let (d, layers) = (self.shape.d_model, &self.decoder);
        let pass = Pass { starts, d };
        let ids: Vec<&[u32]> = canvases.iter().map(|c| c.ids).collect();
        let Buffers { x, now, next, wanted } = buffers;
        x.resize(pass.rows() * d, 0.0);
        pass.phase(x, now, 3 * d, |block, x, qkv, scratch| {
            self.embed(&ids, block, &self.decoder_positions, x);
            layers[0].prepare(x, qkv, scratch);
        });
        for (i, layer) in layers.iter().enumerate() {
            let following = layers.get(i + 1);
            let width = if following.is_some() { 3 * d } else { 0 };
            let qkv = &now[..];
            pass.phase(x, next, width, |block, x, out, scratch| {
                layer.run(x, block, qkv, |sentence| canvases[sentence].keys, i, scratch);
                if let Some(following) = following {
                    following.prepare(x, out, scratch);
                }
            });
            std::mem::swap(now, next);
        }
        let places: Vec<usize> = canvases
            .iter()
            .zip(starts)
            .flat_map(|(canvas, start)| canvas.wanted.iter().map(move |place| start + place))
            .collect();
        wanted.fill(places.len(), d, Input::Signed, |i, row| {
            self.decoder_norm.apply(&x[places[i] * d..][..d], row);
        });
        self.output.best_tokens(wanted, self.forbidden())
    }

    /// Where each row of tokens starts in the packed batch, and the end of the last.
    fn check<'a>(&self, rows: impl Iterator<Item = &'a [u32]>) -> Result<Vec<usize>> {
        let mut starts = vec![0];
        let mut end = 0;
        for row in rows {
            if row.is_empty() || row.len() > self.shape.max_positions {
                let (len, limit) = (row.len(), self.shape.max_positions);
                return Err(Error::Model(format!("a row of {len} tokens, where 1 to {limit} are possible")));
            }
            if let Some(id) = row.iter().find(|&&id| id as usize >= self.shape.vocab) {
                let vocab = self.shape.vocab;
                return Err(Error::Model(format!("token {id} is outside the vocabulary of {vocab}")));
            }
            end += row.len();
            starts.push(end);
        }
        Ok(starts)
    }

    /// `√d · (E[token] + P[position])`
    fn embed(&self, ids: &[&[u32]], block: &Block, positions: &[f32], x: &mut [f32]) {
        let d = self.shape.d_model;
        let scale = (d as f32).sqrt();
        let mut rows = x.chunks_exact_mut(d);
        for part in block.parts() {
            for position in part.positions() {
                let token = &self.embedding[ids[part.index][position] as usize * d..][..d];
                let place = &positions[position * d..][..d];
                for (x, (e, p)) in rows.next().into_iter().flatten().zip(token.iter().zip(place)) {
                    *x = (e + p) * scale;
                }
            }
        }
    }

    /// From the mean of a sentence's states `[len, d]`, in f32.
    fn length_scores(&self, states: &[f32]) -> Vec<f32> {
        let d = self.shape.d_model;
        let factor = d as f32 / states.len() as f32;
        let mut mean = vec![0f32; d];
        let mut scores = self.length_bias.clone();
        pulp::Arch::new().dispatch(|| {
            for row in states.chunks_exact(d) {
                for (mean, v) in mean.iter_mut().zip(row) {
                    *mean += v * factor;
                }
            }
            for (&mean, weights) in mean.iter().zip(self.length.chunks_exact(scores.len())) {
                for (score, weight) in scores.iter_mut().zip(weights) {
                    *score += mean * weight;
                }
            }
        });
        scores
    }

    fn with_buffers<T>(&self, f: impl FnOnce(&mut Buffers) -> T) -> T {
        let pool = || self.buffers.lock().unwrap_or_else(|e| e.into_inner());
        let mut buffers = pool().pop().unwrap_or_default();
        let answer = f(&mut buffers);
        pool().push(buffers);
        answer
    }
}

/// Runs a pass on a thread of the rayon pool, so that its phases need not be handed over one by one.
fn in_pool<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if rayon::current_num_threads() == 1 { f() } else { rayon::scope(|_| f()) }
}

struct Pass<'a> {
    starts: &'a [usize],
    d: usize,
}

impl Pass<'_> {
    fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Calls `f(block, its rows of x [_, d], its rows of out [_, width], scratch)` for every block.
    fn phase(
        &self,
        x: &mut [f32],
        out: &mut Vec<f32>,
        width: usize,
        f: impl Fn(&Block, &mut [f32], &mut [f32], &mut Scratch) + Sync,
    ) {
        let rows = self.rows();
        out.resize(rows * width, 0.0);
        let threads = rayon::current_num_threads();
        let size = block_rows(rows, threads);
        let run = |index: usize, x: &mut [f32], out: &mut [f32]| {
            let first = index * size;
            let block = Block { rows: first..first + x.len() / self.d, starts: self.starts };
            let mut scratch = SCRATCH.take();
            f(&block, x, out, &mut scratch);
            SCRATCH.set(scratch);
        };
        // A phase without output still has its blocks.
        let mut parts: Vec<(&mut [f32], &mut [f32])> = Vec::with_capacity(rows.div_ceil(size));
        let mut out = &mut out[..];
        for x in x.chunks_mut(size * self.d) {
            let (head, rest) = out.split_at_mut(x.len() / self.d * width);
            parts.push((x, head));
            out = rest;
        }
        if threads == 1 || parts.len() == 1 {
            parts.into_iter().enumerate().for_each(|(index, (x, out))| run(index, x, out));
        } else {
            parts
                .into_par_iter()
                .with_max_len(1)
                .enumerate()
                .for_each(|(index, (x, out))| run(index, x, out));
        }
    }
}

/// As few blocks as fit the caches and keep all threads at work, of equal size.
fn block_rows(rows: usize, threads: usize) -> usize {
    let blocks = rows.div_ceil(MOST_ROWS).next_multiple_of(threads);
    rows.div_ceil(blocks.max(1)).clamp(LEAST_ROWS, MOST_ROWS)
}
