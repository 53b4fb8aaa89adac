//! The encoder pass.

use super::QuantizedNetwork;
use super::block::{Block, QuantizedPass, by_groups, starts};
use super::input::Table;
use super::layers::SentenceKeys;
use super::scratch::Buffers;
use crate::Result;
use crate::nn::int8::kernel::arch;
use crate::nn::int8::{Input, StoreMode, log_softmax};

impl QuantizedNetwork {
    /// Returns, for each sentence, its keys and values and the log-probabilities of its length classes.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for an empty sentence, one beyond `max_positions`, or an unknown id.
    pub fn encode_sentences(&self, sources: &[&[u32]]) -> Result<Vec<(SentenceKeys, Vec<f32>)>> {
        sources.iter().try_for_each(|source| self.shape.check_row(source))?;
        let lengths: Vec<usize> = sources.iter().map(|source| source.len()).collect();
        let groups = by_groups(&lengths, |group, threads| {
            self.with_buffers(|buffers| self.encoder_pass(&sources[group], threads, buffers))
        });
        Ok(groups.into_iter().flatten().collect())
    }

    fn encoder_pass(
        &self,
        sources: &[&[u32]],
        threads: usize,
        buffers: &mut Buffers,
    ) -> Vec<(SentenceKeys, Vec<f32>)> {
        let (d, layers) = (self.shape.d_model, &self.encoder);
        let starts = starts(sources.iter().map(|source| source.len()));
        let pass = QuantizedPass { starts: &starts, keys: &starts, positions: None, d, threads };
        let rows = pass.rows();
        let keys_width = self.keys_values.outputs();
        let Buffers { x, now, next, .. } = buffers;
        let x = x.take(rows * d);
        pass.phase(x, now.take(rows * 3 * d), 3 * d, |block, x, qkv, scratch| {
            self.embed(sources, block, &self.encoder_input, x);
            layers[0].prepare(x, qkv, scratch);
        });
        for (i, layer) in layers.iter().enumerate() {
            let following = layers.get(i + 1);
            let width = if following.is_some() { 3 * d } else { keys_width };
            let qkv = now.values(rows * 3 * d);
            pass.phase(x, next.take(rows * width), width, |block, x, out, scratch| {
                layer.run(x, block, qkv, scratch);
                match following {
                    Some(following) => following.prepare(x, out, scratch),
                    None => {
                        self.encoder_norm.iter().for_each(|norm| norm.apply(x));
                        scratch.rows.quantize(x, d, Input::Signed);
                        self.keys_values.forward(&scratch.rows, StoreMode::Store, out);
                    }
                }
            });
            std::mem::swap(now, next);
        }
        let keys = now.values(rows * keys_width);
        let sentence = |(ends, source): (&[usize], &&[u32])| {
            let keys = &keys[ends[0] * keys_width..ends[1] * keys_width];
            let keys = SentenceKeys::new(keys, self.shape.decoder_layers, d, self.kept(source));
            (keys, self.length_log_probs(&x[ends[0] * d..ends[1] * d]))
        };
        starts.windows(2).zip(sources).map(sentence).collect()
    }

    /// Writes the input of the first layer for a block's rows.
    pub(super) fn embed(&self, ids: &[&[u32]], block: &Block, table: &Table, x: &mut [f32]) {
        let mut rows = x.chunks_exact_mut(self.shape.d_model);
        for part in block.parts() {
            for (position, x) in part.places().zip(&mut rows) {
                table.write(ids[part.index][position], position, x);
            }
        }
    }

    /// From the mean of a sentence's states `[len, d]`, in f32. Empty without a length head.
    fn length_log_probs(&self, states: &[f32]) -> Vec<f32> {
        if self.length_bias.is_empty() {
            return Vec::new();
        }
        let mut scores = self.length_bias.clone();
        let mut mean = vec![0f32; self.shape.d_model];
        let weights = &self.length;
        arch().dispatch(LengthHead { states, mean: &mut mean, weights, scores: &mut scores });
        log_softmax(&mut scores);
        scores
    }

    pub(super) fn with_buffers<T>(&self, f: impl FnOnce(&mut Buffers) -> T) -> T {
        let pool = || self.buffers.lock().unwrap_or_else(|e| e.into_inner());
        let mut buffers = pool().pop().unwrap_or_default();
        let answer = f(&mut buffers);
        pool().push(buffers);
        answer
    }
}

/// `scores += mean(states) · weights`
struct LengthHead<'a> {
    /// `[len, d]`
    states: &'a [f32],
    /// `[d]`, zeros
    mean: &'a mut [f32],
    /// `[d, classes]`
    weights: &'a [f32],
    /// `[classes]`
    scores: &'a mut [f32],
}

impl pulp::NullaryFnOnce for LengthHead<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { states, mean, weights, scores } = self;
        let factor = mean.len() as f32 / states.len() as f32;
        for row in states.chunks_exact(mean.len()) {
            for (mean, v) in mean.iter_mut().zip(row) {
                *mean += v * factor;
            }
        }
        for (&mean, weights) in mean.iter().zip(weights.chunks_exact(scores.len())) {
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score += mean * weight;
            }
        }
    }
}
