//! `train parallel`: trains a CMLM; with `[cmlmc]` in the configuration a CMLMC, with `[imputer]` an Imputer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{mean, outcome, plain_shape, require_finished, trimmed, validated_steps};
use crate::model::Tensors;
use crate::model::{Backend, Bundle, Config as ModelConfig, Shape};
use crate::text::{Specials, Tokenizer};
use crate::train::bundle::calibrate::Calibration;
use crate::train::bundle::lock;
use crate::train::config::Config;
use crate::train::data::texts::{RequiredSides, Texts};
use crate::train::objective::{Cmlm, Cmlmc, Imputer, Objective};
use crate::train::update::initial::initial;
use crate::train::update::ranks::{RankContext, devices, run_ranks};
use crate::train::update::run::{End, Published, Run, StageSetup};
use crate::train::update::schedule::Schedule;
use crate::{Error, Result};

/// The shape of a configuration with `vocab` tokens.
pub(crate) fn shape_of(config: &Config, vocab: usize) -> Result<Shape> {
    let plain = plain_shape(config, vocab)?;
    Ok(match (&config.cmlmc, &config.imputer) {
        (Some(cmlmc), _) => cmlmc.shape(plain),
        (None, Some(imputer)) => imputer.shape(plain),
        (None, None) => plain,
    })
}

/// The shape of a configuration with a tokenizer.
///
/// # Errors
/// A tokenizer that an Imputer cannot use.
pub fn shape(config: &Config, tokenizer: &Tokenizer) -> Result<Shape> {
    if config.imputer.is_some() && !tokenizer.spells_everything() {
        let reason = "[imputer] needs a byte-level tokenizer, as `train tokenizer` makes it: its blank takes the id of the unknown token";
        return Err(Error::Config(reason.into()));
    }
    shape_of(config, tokenizer.vocab_size())
}

/// Trains the model, or continues from the last checkpoint in `config.output`. `stop` is checked after each update;
/// when it is set, the run saves and ends.
///
/// Writes `checkpoints/`, `log.jsonl` and, at the end, `bundle/`. The bundle has the final weights (their moving
/// average, if there is one), or the mean of the best checkpoints if `train.average_best` is set.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    let (train, data) = (&config.train, &config.data);
    require_finished(data)?;
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let devices = devices(train.device, train.ranks)?;
    let shape = shape(config, &tokenizer)?;
    let texts = Texts::read(RequiredSides::Both, data, Arc::new(tokenizer), &shape, train.valid_sentences)?;
    run_ranks(&devices, |context| run_rank(config, &texts, &context, stop))
}

/// The work of one rank.
fn run_rank(config: &Config, texts: &Texts, context: &RankContext, stop: &AtomicBool) -> Result<End> {
    let tokenizer = &texts.tokenizer;
    let train = &config.train;
    let backend = Backend::of_tensors(context.device())?;
    let shape = shape(config, tokenizer)?;
    let validated = validated_steps();
    let stage = StageSetup {
        train: train.clone(),
        schedule: Schedule::of(train),
        output: config.output.clone(),
        config: config.to_toml()?,
        initial: initial(train.init.as_deref(), &shape, tokenizer, train.seed, &backend)?,
        shape,
        texts,
        published: Published::Average,
        scored: validated[validated.len() - 1],
        validated,
        validate_at_start: false,
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
    let mut run = Run::prepare(stage, context, backend, |_| Ok(objective))?;
    let end = run.train(stop)?;
    if end == End::Finished && context.is_first() {
        let (weights, path) = (outcome(&run, train)?, config.output.join("bundle"));
        let _lock = lock::wait(&path)?;
        write_bundle(config, tokenizer, &weights, &path)?;
    }
    Ok(end)
}

/// Writes a bundle with the mean weights of several checkpoints of a run.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    write_bundle(config, &tokenizer, &mean(checkpoints)?, output)
}

fn write_bundle(config: &Config, tokenizer: &Tokenizer, weights: &Tensors, path: &Path) -> Result<()> {
    let data = &config.data;
    let (shape, weights) = trimmed(shape(config, tokenizer)?, weights, data.max_tokens_per_sentence)?;
    let model = ModelConfig::new(shape, &data.source_lang, &data.target_lang);
    let card = crate::train::bundle::card::draft(&model, &config.to_toml()?);
    let blank_penalty = config.imputer.as_ref().map_or(0.0, |imputer| imputer.blank_penalty);
    let weights = Calibration { blank_penalty, ..Calibration::NONE }.of(&weights, &model)?;
    Bundle::save(path, &model, tokenizer, &weights, &card)
}
