//! `train ar`: the autoregressive teacher for sequence-level distillation (Kim and Rush 2016), also the quality to
//! compare with.
//!
//! It is the network of the CMLM with a causal decoder and the same tokenizer, so each can start from the other's
//! weights. Its length head is trained for that purpose; search does not use it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::Result;
use crate::decode::Decoding;
use crate::model::Tensors;
use crate::model::{Architecture, Backend, Bundle, Config as ModelConfig};
use crate::text::{Specials, Tokenizer};
use crate::train::bundle::lock;
use crate::train::config::{Config, Data};
use crate::train::data::texts::{RequiredSides, Texts};
use crate::train::objective::Autoregressive;
use crate::train::stages::outcome;
use crate::train::stages::plain_shape;
use crate::train::stages::trimmed;
use crate::train::update::initial::initial;
use crate::train::update::ranks::{RankContext, devices, run_ranks};
use crate::train::update::run::{End, Published, Run, StageSetup};
use crate::train::update::schedule::Schedule;

/// Trains the teacher, or continues from the last checkpoint in the stage's folder. `stop` is checked after each
/// update; when it is set, the run saves and ends.
///
/// Writes `checkpoints/`, `log.jsonl` and, at the end, `bundle/`. The bundle has the final weights (their moving
/// average, if there is one), or the mean of the best checkpoints if `train.average_best` is set. Validation, and the
/// choice of the best checkpoints, use greedy search.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    // A teacher always learns from the original text.
    let data = &Data { distilled: None, ..config.data.clone() };
    let train = config.ar.clone().unwrap_or_default().train(&config.train);
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let devices = devices(train.device, train.ranks)?;
    let shape = plain_shape(config, tokenizer.vocab_size())?;
    let texts = Texts::read(RequiredSides::Both, data, Arc::new(tokenizer), &shape, train.valid_sentences)?;
    run_ranks(&devices, |context| run_rank(config, &texts, &context, stop))
}

/// The work of one rank.
fn run_rank(config: &Config, texts: &Texts, context: &RankContext, stop: &AtomicBool) -> Result<End> {
    let tokenizer = &texts.tokenizer;
    let settings = config.ar.clone().unwrap_or_default();
    let (train, output) = (settings.train(&config.train), settings.output(&config.output));
    let backend = Backend::of_tensors(context.device())?;
    let shape = plain_shape(config, tokenizer.vocab_size())?;
    let stage = StageSetup {
        schedule: Schedule::of(&train),
        output: output.clone(),
        config: config.to_toml()?,
        initial: initial(settings.init.as_deref(), &shape, tokenizer, train.seed, &backend)?,
        shape,
        texts,
        published: Published::Average,
        validated: vec![Decoding::Beam(1)],
        scored: Decoding::Beam(1),
        validate_at_start: false,
        train: train.clone(),
    };
    let objective = Autoregressive {
        specials: Specials::default(),
        label_smoothing: train.label_smoothing as f32,
        length_weight: train.length_loss_weight,
        dropout: train.dropout as f32,
        products: train.products.into(),
    };
    let mut run = Run::prepare(stage, context, backend, |_| Ok(objective))?;
    let end = run.train(stop)?;
    if end == End::Finished && context.is_first() {
        let (weights, path) = (outcome(&run, &train)?, output.join("bundle"));
        let _lock = lock::wait(&path)?;
        write_bundle(config, tokenizer, &weights, &path)?;
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
    let card = crate::train::bundle::card::draft(&model, &config.to_toml()?);
    Bundle::save(path, &model, tokenizer, &weights, &card)
}
