//! The same network read from left to right: a position sees itself and those before it, and says
//! which token comes next. Whole targets at once for training; one token at a time, with keys and
//! values of the past kept, for search. (Vaswani et al. 2017.)

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{DecoderAttention, Memory, Network, Padded, normed};
use crate::nn::Mode;
use crate::nn::ops::Sight;

/// What every decoder layer keeps of the target so far.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// One for each decoder layer, `[rows, len, 2 · d]`; none before the first token.
    layers: Vec<Tensor>,
    len: usize,
}

impl Past {
    /// Tokens read so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Goes on with these rows, in this order; a row may be taken several times.
    pub fn select(&mut self, rows: &[u32]) -> Result<()> {
        for layer in &mut self.layers {
            let index = Tensor::from_slice(rows, rows.len(), layer.device())?;
            *layer = layer.index_select(&index, 0)?;
        }
        Ok(())
    }
}

impl Memory {
    /// Goes on with these sentences, in this order.
    pub fn select(&mut self, sentences: &[u32]) -> Result<()> {
        for layer in &mut self.layers {
            let index = Tensor::from_slice(sentences, sentences.len(), layer.device())?;
            *layer = layer.index_select(&index, 0)?;
        }
        self.lengths = sentences.iter().map(|&s| self.lengths[s as usize]).collect();
        Ok(())
    }
}

impl Network {
    /// Last decoder states of each position of `bos y1..yn`, `[rows, target, d]`: the state at a position
    /// is that from which the next token is told.
    pub fn decode_causal(&self, target: &Padded, memory: &Memory, mode: &Mode) -> Result<Tensor> {
        self.require_causal()?;
        self.decode_seeing(Sight::Causal, target, memory, mode)
    }

    /// The same for one more token of each row, `[rows, d]`; `past` grows by it. Every sentence of
    /// `memory` has the same number of rows, side by side.
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
            candle_core::bail!("{rows} rows cannot be shared out to {sentences} sentences");
        }
        let (beam, d) = (rows / sentences, self.shape.d_model);
        let beams: Arc<[usize]> = vec![beam; sentences].into();
        let ids = Tensor::from_slice(tokens, (rows, 1), &self.device)?;
        let mut x = self.embed(&ids, past.len, &self.decoder_input, mode)?;
        let mut layers = Vec::with_capacity(self.decoder.len());
        for (i, (layer, keys_values)) in self.decoder.iter().zip(&memory.layers).enumerate() {
            let (seen, grown) = layer.next(&x, past.layers.get(i), mode)?;
            layers.push(grown);
            // The rows of a sentence are so many queries to it: its keys and values stand there once.
            let row = seen.reshape((sentences, beam, d))?;
            let source = (keys_values, &memory.lengths);
            x = layer.after_self_attention(&row, &beams, source, mode)?.reshape((rows, 1, d))?;
        }
        *past = Past { layers, len: past.len + 1 };
        normed(&self.decoder_norm, x)?.reshape((rows, d))
    }

    /// A layer that looks at the whole canvas sees what stands behind.
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
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::{Backend, Shape};

    fn network() -> Network {
        let shape: Shape = "enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=16".parse().unwrap();
        Network::random(&shape, 3, &Backend::cpu()).unwrap()
    }

    fn memory(network: &Network, sources: &[&[u32]]) -> Memory {
        let mode = Mode::inference();
        let source = Padded::new(sources.iter().copied(), 0, &Device::Cpu).unwrap();
        let states = network.encode(&source, &mode).unwrap();
        network.memory(&states, &source.lengths, &mode).unwrap()
    }

    fn row(states: &Tensor, row: usize) -> Vec<f32> {
        states.get(row).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-4, "{got}, not {want}");
        }
    }

    #[test]
    fn token_by_token_gives_the_states_of_the_whole_target() {
        let (network, mode) = (network(), Mode::inference());
        let memory = memory(&network, &[&[1, 9, 10, 2], &[1, 11, 2]]);
        // Two rows for each sentence.
        let rows: [&[u32]; 4] = [&[1, 20, 21, 22], &[1, 23, 24, 25], &[1, 26, 20, 27], &[1, 22, 22, 22]];
        let whole: Vec<Tensor> = rows
            .iter()
            .enumerate()
            .map(|(i, row)| {
                let mut own = memory.clone();
                own.select(&[i as u32 / 2]).unwrap();
                let target = Padded::new([*row].into_iter(), 0, &Device::Cpu).unwrap();
                network.decode_causal(&target, &own, &mode).unwrap().get(0).unwrap()
            })
            .collect();
        let mut past = Past::default();
        for position in 0..4 {
            let tokens: Vec<u32> = rows.iter().map(|row| row[position]).collect();
            let states = network.decode_next(&tokens, &mut past, &memory, &mode).unwrap();
            for (i, whole) in whole.iter().enumerate() {
                assert_near(&row(&states, i), &row(whole, position));
            }
        }
        assert_eq!(past.len(), 4);
    }

    #[test]
    fn a_position_does_not_see_those_behind_it() {
        let (network, mode) = (network(), Mode::inference());
        let memory = memory(&network, &[&[1, 9, 10, 2]]);
        let states = |target: &[u32]| {
            let target = Padded::new([target].into_iter(), 0, &Device::Cpu).unwrap();
            network.decode_causal(&target, &memory, &mode).unwrap().get(0).unwrap()
        };
        let (a, b) = (states(&[1, 20, 21, 22]), states(&[1, 20, 30, 31]));
        for position in 0..2 {
            assert_eq!(row(&a, position), row(&b, position));
        }
        assert_ne!(row(&a, 2), row(&b, 2));
    }

    #[test]
    fn rows_that_are_taken_again_go_on_from_their_own_past() {
        let (network, mode) = (network(), Mode::inference());
        let memory = memory(&network, &[&[1, 9, 10, 2]]);
        let mut past = Past::default();
        network.decode_next(&[1, 1], &mut past, &memory, &mode).unwrap();
        network.decode_next(&[20, 21], &mut past, &memory, &mode).unwrap();
        past.select(&[1, 1]).unwrap();
        let states = network.decode_next(&[22, 22], &mut past, &memory, &mode).unwrap();
        assert_eq!(row(&states, 0), row(&states, 1));
        let target = Padded::new([&[1u32, 21, 22][..]].into_iter(), 0, &Device::Cpu).unwrap();
        let whole = network.decode_causal(&target, &memory, &mode).unwrap().get(0).unwrap();
        assert_near(&row(&states, 0), &row(&whole, 2));
    }

    #[test]
    fn rows_that_do_not_fit_the_sentences_are_an_error() {
        let network = network();
        let memory = memory(&network, &[&[1, 9, 2], &[1, 8, 2]]);
        let answer = network.decode_next(&[1, 1, 1], &mut Past::default(), &memory, &Mode::inference());
        assert!(answer.unwrap_err().to_string().contains("2 sentences"));
    }
}
