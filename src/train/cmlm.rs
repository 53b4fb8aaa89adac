//! `train cmlm`: from a tokenizer and parallel text to checkpoints and a bundle. With `[cmlmc]` in its
//! configuration the model learns to correct itself besides; with `[imputer]` it is one of slots and blanks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::calibrate::Calibration;
use super::checkpoint::{Tensors, average};
use super::config::{Config, Train};
use super::corpus::Corpus;
use super::distill::require_finished;
use super::evaluate::validated_steps;
use super::initial::{POSITIONS, initial};
use super::objective::{Cmlm, Cmlmc, Imputer, Objective};
use super::parallel::{Seat, devices, together};
use super::run::{End, Published, Run, Stage};
use super::texts::Texts;
use crate::model::{Backend, Bundle, Config as ModelConfig, Lengths, Shape};
use crate::text::{Specials, Tokenizer};
use crate::{Error, Result};

/// Classes of the length head: a translation may be up to 64 tokens shorter or 63 longer.
const LENGTH_CLASSES: usize = 128;

/// The shape that a configuration asks for with so many tokens, without what `[cmlmc]` and `[imputer]` change.
pub(super) fn plain_shape(config: &Config, vocab: usize) -> Result<Shape> {
    let m = &config.model;
    let shape = Shape {
        encoder_layers: m.encoder_layers,
        decoder_layers: m.decoder_layers,
        d_model: m.d_model,
        ffn: m.ffn,
        heads: m.heads,
        vocab,
        max_positions: m.max_positions,
        length_classes: LENGTH_CLASSES,
        norm: m.norm,
        ..Shape::default()
    };
    shape.validate()?;
    Ok(shape)
}

/// The shape that a configuration asks for with so many tokens.
pub(super) fn shape_of(config: &Config, vocab: usize) -> Result<Shape> {
    let plain = plain_shape(config, vocab)?;
    Ok(match (&config.cmlmc, &config.imputer) {
        (Some(cmlmc), _) => cmlmc.shape(plain),
        (None, Some(imputer)) => imputer.shape(plain),
        (None, None) => plain,
    })
}

/// The shape that a configuration and a tokenizer ask for.
pub fn shape(config: &Config, tokenizer: &Tokenizer) -> Result<Shape> {
    if config.imputer.is_some() && !tokenizer.spells_everything() {
        let reason = "[imputer] needs a tokenizer of bytes, as `train tokenizer` makes it: its unknown token is the blank";
        return Err(Error::Config(reason.into()));
    }
    shape_of(config, tokenizer.vocab_size())
}

/// Trains, going on from the last checkpoint in `config.output` if there is one. `stop` is looked at
/// after each update; when it is set, everything is saved first.
///
/// Writes `checkpoints/`, `log.jsonl`, and at the end `bundle/` with the final weights (the moving
/// average, where the run keeps one), or the mean of the best where `train.average_best` asks for it.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    let (train, data) = (&config.train, &config.data);
    require_finished(data)?;
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let devices = devices(train.device, train.ranks)?;
    let shape = shape(config, &tokenizer)?;
    let texts = Texts::read(Corpus::read_all, data, Arc::new(tokenizer), &shape, train.valid_sentences)?;
    together(&devices, |seat| go(config, &texts, &seat, stop))
}

/// One rank's part of a run.
fn go(config: &Config, texts: &Texts, seat: &Seat, stop: &AtomicBool) -> Result<End> {
    let tokenizer = &texts.tokenizer;
    let train = &config.train;
    let backend = Backend::of_tensors(seat.device())?;
    let shape = shape(config, tokenizer)?;
    let validated = validated_steps();
    let stage = Stage {
        train: train.clone(),
        schedule: train.schedule(),
        output: config.output.clone(),
        config: config.to_toml()?,
        initial: initial(train.init.as_deref(), &shape, tokenizer, train.seed, &backend)?,
        shape,
        texts,
        published: Published::Average,
        scored: validated[validated.len() - 1],
        validated,
        starts_validated: false,
    };
    let specials = Specials::default();
    let cmlm = Cmlm {
        specials,
        label_smoothing: train.label_smoothing as f32,
        length_weight: train.length_loss_weight,
        dropout: train.dropout as f32,
        products: train.products.into(),
    };
    let objective: Box<dyn Objective> = match (config.cmlmc.clone(), &config.imputer) {
        (Some(settings), _) => Box::new(Cmlmc { cmlm, settings }),
        (None, Some(settings)) => {
            let Cmlm { dropout, products, .. } = cmlm;
            Box::new(Imputer { specials, mask: settings.mask, dropout, products })
        }
        (None, None) => Box::new(cmlm),
    };
    let mut run = Run::prepare(stage, seat, backend, |_| Ok(objective))?;
    let end = run.train(stop)?;
    if end == End::Finished && seat.is_first() {
        let weights = outcome(&run, train)?;
        write_bundle(config, tokenizer, &weights, &config.output.join("bundle"))?;
    }
    Ok(end)
}

/// Writes a bundle with the mean weights of some checkpoints of a run.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    write_bundle(config, &tokenizer, &mean(checkpoints)?, output)
}

/// What a finished run gives: the mean of its best checkpoints where that is asked for, else what it
/// publishes.
pub(super) fn outcome<O: Objective>(run: &Run<'_, O>, train: &Train) -> Result<Tensors> {
    let best = run.best(train.average_best)?;
    if best.is_empty() { Ok(run.published().clone()) } else { mean(&best) }
}

/// The mean weights of some checkpoints: of their moving averages, where each of them has one.
fn mean(checkpoints: &[PathBuf]) -> Result<Tensors> {
    let paths: Vec<PathBuf> = checkpoints.iter().map(|c| c.join("ema.safetensors")).collect();
    average(if paths.iter().all(|p| p.exists()) { &paths } else { checkpoints })
}

/// Positions that no training sentence can have reached stay out of the bundle: the server then splits
/// a longer sentence, instead of translating it with positions that were never trained.
pub(super) fn trimmed(
    shape: Shape,
    weights: &Tensors,
    max_tokens_per_sentence: usize,
) -> Result<(Shape, Tensors)> {
    let slots = if shape.has_blanks() { Lengths::SLOTS_PER_TOKEN } else { 1 };
    let max_positions = shape.max_positions.min(slots * max_tokens_per_sentence);
    let mut weights = weights.clone();
    for name in POSITIONS {
        if let Some(table) = weights.get_mut(name) {
            *table = table.narrow(0, 0, max_positions)?;
        }
    }
    Ok((Shape { max_positions, ..shape }, weights))
}

fn write_bundle(config: &Config, tokenizer: &Tokenizer, weights: &Tensors, path: &Path) -> Result<()> {
    let data = &config.data;
    let (shape, weights) = trimmed(shape(config, tokenizer)?, weights, data.max_tokens_per_sentence)?;
    let model = ModelConfig::new(shape, &data.source_lang, &data.target_lang);
    let card = super::card::draft(&model, &config.to_toml()?);
    let blank_penalty = config.imputer.as_ref().map_or(0.0, |imputer| imputer.blank_penalty);
    let weights = Calibration { blank_penalty, ..Calibration::NONE }.of(&weights, &model)?;
    Bundle::save(path, &model, tokenizer, &weights, &card)
}
