//! `train ar`: the autoregressive teacher, whose translations a parallel model learns best from
//! (sequence-level distillation, Kim and Rush 2016), and the quality that a user would otherwise have.
//!
//! It is the network of the CMLM read from left to right, with the same tokenizer; so the one can begin
//! with the weights of the other. Its length head is trained along for that reason; search does not use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::checkpoint::Tensors;
use super::cmlm::{outcome, plain_shape, trimmed};
use super::config::{Config, Data};
use super::corpus::{Corpus, Pair};
use super::evaluate::Decoding;
use super::initial::initial;
use super::masking::Masked;
use super::objective::{Batch, Losses, Objective, Pass, Step};
use super::parallel::{Seat, devices, together};
use super::run::{End, Published, Run, Stage};
use super::texts::Texts;
use crate::Result;
use crate::model::{Architecture, Backend, Bundle, Config as ModelConfig};
use crate::nn::Mode;
use crate::nn::gemm::Precision;
use crate::text::{Specials, Tokenizer};

/// Trains, going on from the last checkpoint in the stage's folder if there is one. `stop` is looked at
/// after each update; when it is set, everything is saved first.
///
/// Writes `checkpoints/`, `log.jsonl`, and at the end `bundle/` with the final weights (the moving
/// average, where the run keeps one), or the mean of the best where `train.average_best` asks for it.
/// Validated, and the best checkpoints chosen, by greedy search.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    // A teacher learns from people, whatever its students learn from.
    let data = &Data { distilled: None, ..config.data.clone() };
    let train = config.ar.clone().unwrap_or_default().train(&config.train);
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let devices = devices(train.device, train.ranks)?;
    let shape = plain_shape(config, tokenizer.vocab_size())?;
    let texts = Texts::read(Corpus::read_all, data, Arc::new(tokenizer), &shape, train.valid_sentences)?;
    together(&devices, |seat| go(config, &texts, &seat, stop))
}

/// One rank's part of a run.
fn go(config: &Config, texts: &Texts, seat: &Seat, stop: &AtomicBool) -> Result<End> {
    let tokenizer = &texts.tokenizer;
    let settings = config.ar.clone().unwrap_or_default();
    let (train, output) = (settings.train(&config.train), settings.output(&config.output));
    let backend = Backend::of_tensors(seat.device())?;
    let shape = plain_shape(config, tokenizer.vocab_size())?;
    let stage = Stage {
        schedule: train.schedule(),
        output: output.clone(),
        config: config.to_toml()?,
        initial: initial(settings.init.as_deref(), &shape, tokenizer, train.seed, &backend)?,
        shape,
        texts,
        published: Published::Average,
        validated: vec![Decoding::Beam(1)],
        scored: Decoding::Beam(1),
        starts_validated: false,
        train: train.clone(),
    };
    let objective = Autoregressive {
        specials: Specials::default(),
        label_smoothing: train.label_smoothing as f32,
        length_weight: train.length_loss_weight,
        dropout: train.dropout as f32,
        products: train.products.into(),
    };
    let mut run = Run::prepare(stage, seat, backend, |_| Ok(objective))?;
    let end = run.train(stop)?;
    if end == End::Finished && seat.is_first() {
        write_bundle(config, tokenizer, &outcome(&run, &train)?, &output.join("bundle"))?;
    }
    Ok(end)
}

fn write_bundle(config: &Config, tokenizer: &Tokenizer, weights: &Tensors, path: &Path) -> Result<()> {
    let data = &config.data;
    let (shape, weights) =
        trimmed(plain_shape(config, tokenizer.vocab_size())?, weights, data.max_tokens_per_sentence)?;
    let model = ModelConfig {
        architecture: Architecture::Ar,
        ..ModelConfig::new(shape, &data.source_lang, &data.target_lang)
    };
    let card = super::card::draft(&model, &config.to_toml()?);
    Bundle::save(path, &model, tokenizer, &weights, &card)
}

/// Cross entropy of each next token, the end of the sentence included, and of the length.
pub(super) struct Autoregressive {
    pub specials: Specials,
    pub label_smoothing: f32,
    pub length_weight: f64,
    pub dropout: f32,
    pub products: Precision,
}

impl Objective for Autoregressive {
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, pairs, dropout, .. } = step;
        let shifted: Vec<Masked> = pairs.iter().map(|pair| next_tokens(pair)).collect();
        let batch = Batch::new(pairs, &shifted, student.shape(), &self.specials, student.device())?;
        let mode = Mode::training(self.dropout, dropout, self.products);
        let pass = Pass::causal(student, &batch, &mode)?;
        // eos is a token here; what stands below it is none.
        let forbidden = self.specials.eos as usize;
        Losses::of(pass, &batch, self.label_smoothing, self.length_weight, forbidden)
    }
}

/// `bos x1..xL` to read, and at each place the token that comes next: `x1..xL eos`.
fn next_tokens(pair: &Pair) -> Masked {
    let target = &pair.target;
    let canvas = target[..target.len().saturating_sub(1)].to_vec();
    Masked {
        positions: (0..canvas.len() as u32).collect(),
        gold: target.iter().skip(1).copied().collect(),
        canvas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_asked_for_the_token_behind_it() {
        let pair = Pair { source: vec![1, 9, 2], target: vec![1, 10, 11, 12, 2] };
        let asked = next_tokens(&pair);
        assert_eq!(asked.canvas, [1, 10, 11, 12]);
        assert_eq!(asked.positions, [0, 1, 2, 3]);
        assert_eq!(asked.gold, [10, 11, 12, 2]);
    }
}
