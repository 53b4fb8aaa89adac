//! `train dims`: distils several decoding steps of a trained model into one (DiMS, Norouzi et al. 2023, arXiv
//! 2206.02999). The loss itself is [`Dims`].
//!
//! Student and teacher start as copies of one bundle. In each update the teacher takes n passes over a masked target,
//! and the student learns to give the final distribution and hidden states of every masked position in one pass. The
//! teacher is fixed, or a moving average of the student. In the unsupervised form (U-DiMS) the target is the
//! teacher's own translation, so only source text is needed. Progressive distillation repeats this: the student of
//! each round is the teacher of the next.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::{require_finished, validated_steps};
use crate::decode::{Decoding, Steps};
use crate::model::{Backend, Bundle, Config as ModelConfig, Dtype, Tensors};
use crate::text::Specials;
use crate::train::bundle::calibrate::Calibration;
use crate::train::bundle::card::draft;
use crate::train::bundle::lock;
use crate::train::config::{Config, Dims as Settings, Target};
use crate::train::data::texts::{RequiredSides, Texts, require_languages};
use crate::train::objective::{Dims, Teacher};
use crate::train::observe::progress;
use crate::train::update::checkpoint::average;
use crate::train::update::ranks::{RankContext, devices, run_ranks};
use crate::train::update::run::{End, Published, Run, StageSetup};
use crate::train::update::schedule::Schedule;
use crate::train::weights::frozen;
use crate::{Error, Result};

/// Number of steps whose BLEU decides which student is the best.
const SCORED_STEPS: Steps = Steps::ONE;

/// Distils the bundle that `config` names, or continues from the last checkpoint in the stage's folder. `stop` is
/// checked after each update; when it is set, the run saves and ends.
///
/// Writes `checkpoints/`, `log.jsonl` and, at the end, `bundle/` with the student of the best one-step BLEU, or the
/// mean of the best `dims.average_best`. The teacher's own weights are the first candidate. In a checkpoint,
/// `ema.safetensors` holds the teacher.
///
/// # Errors
/// A teacher for other languages; and invalid bundles, data or folders.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    let settings = config.dims.clone().unwrap_or_default();
    for number in 1..=settings.rounds {
        progress::part(number.into(), settings.rounds.into());
        let own = Config { dims: Some(settings.round(number, &config.output)), ..config.clone() };
        if round(&own, stop)? == End::Interrupted {
            return Ok(End::Interrupted);
        }
    }
    Ok(End::Finished)
}

/// Runs one round. A finished round only writes its bundle again.
fn round(config: &Config, stop: &AtomicBool) -> Result<End> {
    let data = &config.data;
    let settings = config.dims.clone().unwrap_or_default();
    let train = settings.train(&config.train);
    if !settings.unsupervised {
        require_finished(data)?;
    }
    let devices = devices(train.device, train.ranks)?;
    let bundle = Bundle::open(&settings.teacher(&config.output))?;
    require_teacher(&bundle, config)?;
    let (tokenizer, shape) = (bundle.tokenizer.clone(), &bundle.config.shape);
    let sides = if settings.unsupervised { RequiredSides::SourceOnly } else { RequiredSides::Both };
    let texts = Texts::read(sides, data, tokenizer, shape, train.valid_sentences)?;
    run_ranks(&devices, |context| run_rank(config, &bundle, &texts, &context, stop))
}

/// The work of one rank.
fn run_rank(
    config: &Config,
    bundle: &Bundle,
    texts: &Texts,
    context: &RankContext,
    stop: &AtomicBool,
) -> Result<End> {
    let settings = config.dims.clone().unwrap_or_default();
    let (train, output) = (settings.train(&config.train), settings.output(&config.output));
    let backend = Backend::of_tensors(context.device())?;
    require_place(config, &backend)?;
    let stage = StageSetup {
        schedule: Schedule::of_dims(&settings),
        output: output.clone(),
        config: config.to_toml()?,
        shape: bundle.config.shape.clone(),
        initial: bundle.tensors().clone(),
        texts,
        published: Published::Trained,
        validated: validated_steps(),
        scored: Decoding::Steps(SCORED_STEPS),
        validate_at_start: true,
        train: train.clone(),
    };
    let mut run = Run::prepare(stage, context, backend.clone(), |average| {
        let follows = average.is_some();
        let weights = average.unwrap_or_else(|| bundle.tensors().clone());
        let network = frozen(&bundle.config.shape, &weights, &backend)?;
        let teacher = match settings.teacher_dtype {
            Dtype::Q8 => Teacher::eight_bit(network, weights, follows),
            _ => Teacher::exact(network),
        };
        Ok(Dims {
            teacher,
            lm: bundle.lm.clone().filter(|_| settings.lm),
            specials: Specials::default(),
            length_weight: train.length_loss_weight,
            products: train.products.into(),
            batch_tokens: train.batch_tokens,
            settings,
        })
    })?;
    let end = run.train(stop)?;
    if end == End::Finished && context.is_first() {
        let (best, path) = (average(&run.best(train.average_best)?)?, output.join("bundle"));
        let _lock = lock::wait(&path)?;
        write_bundle(config, bundle, &best, &path)?;
    }
    Ok(end)
}

/// Writes a bundle with the mean weights of several checkpoints of a student.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let settings = config.dims.clone().unwrap_or_default();
    let teacher = Bundle::open(&settings.teacher(&config.output))?;
    write_bundle(config, &teacher, &average(checkpoints)?, output)
}

/// Writes a student, which has the shape and the tokenizer of its teacher.
fn write_bundle(config: &Config, teacher: &Bundle, weights: &Tensors, path: &Path) -> Result<()> {
    let Config { data, .. } = config;
    let shape = teacher.config.shape.clone();
    let student =
        ModelConfig { default_steps: 1, ..ModelConfig::new(shape, &data.source_lang, &data.target_lang) };
    let card = draft(&student, &config.to_toml()?);
    let scale = config.dims.clone().unwrap_or_default().output_scale;
    let weights = Calibration { scale, ..Calibration::NONE }.of(weights, &student)?;
    Bundle::save(path, &student, &teacher.tokenizer, &weights, &card)
}

/// # Errors
/// A teacher for other languages, or of a kind that the settings do not support.
pub(crate) fn require_teacher(bundle: &Bundle, config: &Config) -> Result<()> {
    require_languages(bundle, &config.data)?;
    let guesses = config.dims.as_ref().is_some_and(|dims| dims.length_beam > 0);
    if bundle.config.shape.has_blanks() && guesses {
        return Err(Error::Config(Settings::NO_LENGTHS.into()));
    }
    let aligns = config.dims.as_ref().is_some_and(|dims| dims.target == Target::Text);
    if aligns && !bundle.config.shape.has_blanks() {
        return Err(Error::Config(Settings::NO_SLOTS.into()));
    }
    if config.dims.as_ref().is_some_and(|dims| dims.lm) && bundle.lm.is_none() {
        let reason = "dims.lm is set, but the teacher has no lm.safetensors; write one with `train lm`, or set dims.lm = false";
        return Err(Error::bundle(&bundle.dir, reason));
    }
    Ok(())
}

/// # Errors
/// A backend that cannot compute the teacher's number type.
pub(crate) fn require_place(config: &Config, backend: &Backend) -> Result<()> {
    let eight_bit = config.dims.as_ref().is_some_and(|dims| dims.teacher_dtype == Dtype::Q8);
    if backend.gpu().is_some() && eight_bit {
        let reason = "dims.teacher_dtype = \"q8\" is for the CPU; set it to \"f32\" on a GPU";
        return Err(Error::Config(reason.into()));
    }
    Ok(())
}
