//! `train dims`: distils several decoding steps of a trained model into one (DiMS, Norouzi et al. 2023,
//! arXiv 2206.02999).
//!
//! Student and teacher begin as copies of one bundle. In each update the teacher takes n passes over a
//! masked target, and the student is to give in one pass what the teacher ends with: its distribution
//! and its hidden states at every masked place. The teacher stays as it is, or follows the student as a
//! moving average. In the unsupervised form (U-DiMS) the target is the teacher's own translation, so
//! source text is all that is needed. Progressive distillation is several rounds of this, the student of each
//! being the teacher of the next.

mod teacher;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::calibrate::Calibration;
use super::checkpoint::{Tensors, average};
use super::config::{Config, Dims as Settings, Mask, SlotMask};
use super::corpus::{Corpus, Pair};
use super::distill::require_finished;
use super::evaluate::{Decoding, validated_steps};
use super::masking::{Masked, mask_all, mask_slots, mask_target, mask_translation, masks_only};
use super::objective::{Batch, Losses, Objective, Pass, Spelling, Step, best_paths, with_length};
use super::parallel::{Seat, devices, together};
use super::progress;
use super::rng::Rng;
use super::run::{End, Published, Run, Stage};
use super::texts::{ReadCorpus, Texts};
use super::weights::frozen;
use crate::decode::{DecodeOptions, Steps, length_beam};
use crate::model::{Backend, Bundle, Config as ModelConfig, Dtype};
use crate::nn::gemm::Precision;
use crate::nn::{Mode, ops};
use crate::text::Specials;
use crate::{Error, Result};
use teacher::Source;
pub(super) use teacher::Teacher;

/// Steps whose BLEU decides which student is the best: those that it is made for.
const SCORED_STEPS: Steps = Steps::ONE;

/// Distils the bundle that `config` names, going on from the last checkpoint in the stage's folder if
/// there is one. `stop` is looked at after each update; when it is set, everything is saved first.
///
/// Writes `checkpoints/`, `log.jsonl`, and at the end `bundle/` with the student of the best one-step
/// BLEU, or the mean of as many as `dims.average_best` says; the teacher's own weights are the first candidate. In a checkpoint `ema.safetensors` is the teacher.
///
/// Errors: a teacher for other languages; whatever is wrong with bundle, data or folder.
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

/// One of several rounds, or the only one. One that is done does nothing but write its bundle again.
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
    let read: ReadCorpus = if settings.unsupervised { Corpus::read_sources } else { Corpus::read_all };
    let texts = Texts::read(read, data, tokenizer, shape, train.valid_sentences)?;
    together(&devices, |seat| go(config, &bundle, &texts, &seat, stop))
}

/// One rank's part of a run.
fn go(config: &Config, bundle: &Bundle, texts: &Texts, seat: &Seat, stop: &AtomicBool) -> Result<End> {
    let settings = config.dims.clone().unwrap_or_default();
    let (train, output) = (settings.train(&config.train), settings.output(&config.output));
    let backend = Backend::of_tensors(seat.device())?;
    require_place(config, &backend)?;
    let stage = Stage {
        schedule: settings.schedule(),
        output: output.clone(),
        config: config.to_toml()?,
        shape: bundle.config.shape.clone(),
        initial: bundle.tensors().clone(),
        texts,
        published: Published::Trained,
        validated: validated_steps(),
        scored: Decoding::Steps(SCORED_STEPS),
        starts_validated: true,
        train: train.clone(),
    };
    let mut run = Run::prepare(stage, seat, backend.clone(), |average| {
        let follows = average.is_some();
        let weights = average.unwrap_or_else(|| bundle.tensors().clone());
        let network = frozen(&bundle.config.shape, &weights, &backend)?;
        let teacher = match settings.teacher_dtype {
            Dtype::Q8 => Teacher::eight_bit(network, weights, follows),
            _ => Teacher::exact(network),
        };
        Ok(Dims {
            teacher,
            specials: Specials::default(),
            length_weight: train.length_loss_weight,
            products: train.products.into(),
            batch_tokens: train.batch_tokens,
            settings,
        })
    })?;
    let end = run.train(stop)?;
    if end == End::Finished && seat.is_first() {
        let best = average(&run.best(train.average_best)?)?;
        write_bundle(config, bundle, &best, &output.join("bundle"))?;
    }
    Ok(end)
}

/// Writes a bundle with the mean weights of some checkpoints of a student.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let settings = config.dims.clone().unwrap_or_default();
    let teacher = Bundle::open(&settings.teacher(&config.output))?;
    write_bundle(config, &teacher, &average(checkpoints)?, output)
}

/// The student is of its teacher's shape and has its tokenizer.
fn write_bundle(config: &Config, teacher: &Bundle, weights: &Tensors, path: &Path) -> Result<()> {
    let Config { data, .. } = config;
    let shape = teacher.config.shape.clone();
    let student =
        ModelConfig { default_steps: 1, ..ModelConfig::new(shape, &data.source_lang, &data.target_lang) };
    let card = super::card::draft(&student, &config.to_toml()?);
    let scale = config.dims.clone().unwrap_or_default().output_scale;
    let weights = Calibration { scale, ..Calibration::NONE }.of(weights, &student)?;
    Bundle::save(path, &student, &teacher.tokenizer, &weights, &card)
}

/// Errors: a teacher of other languages, or of a kind that the settings are not for.
pub(super) fn require_teacher(bundle: &Bundle, config: &Config) -> Result<()> {
    super::texts::require_languages(bundle, &config.data)?;
    let guesses = config.dims.as_ref().is_some_and(|dims| dims.length_beam > 0);
    if bundle.config.shape.has_blanks() && guesses {
        return Err(Error::Config(Settings::NO_LENGTHS.into()));
    }
    Ok(())
}

/// Errors: a teacher whose products cannot be computed there.
pub(super) fn require_place(config: &Config, backend: &Backend) -> Result<()> {
    let eight_bit = config.dims.as_ref().is_some_and(|dims| dims.teacher_dtype == Dtype::Q8);
    if backend.gpu().is_some() && eight_bit {
        let reason = "dims.teacher_dtype = \"q8\" computes on the CPU; on a GPU it must be \"f32\"";
        return Err(Error::Config(reason.into()));
    }
    Ok(())
}

/// The losses of DiMS.
pub(super) struct Dims {
    pub settings: Settings,
    pub teacher: Teacher,
    pub specials: Specials,
    pub length_weight: f64,
    pub products: Precision,
    pub batch_tokens: usize,
}

impl Objective for Dims {
    /// `KL(teacher after n passes ‖ student after one) + w · mean ‖h_n − h_S‖₂ + v · CE(length)`
    fn losses(&self, step: Step<'_>) -> Result<Losses> {
        let Step { student, mut masks, dropout, .. } = step;
        let pairs = self.with_targets(step.pairs)?;
        let pairs: Vec<&Pair> = pairs.iter().map(AsRef::as_ref).collect();
        // The same precision as the student's, so that equal weights give equal states.
        let quiet = Mode::training(0.0, 0, self.products);
        let source = self.teacher.read(&pairs, &quiet)?;
        let masked: Vec<_> = if student.shape().has_blanks() {
            self.hide_slots(&pairs, &source, &mut masks, &quiet)?
        } else {
            let lengths = source.length_log_probs.iter();
            pairs.iter().zip(lengths).map(|(pair, own)| self.hide(&pair.target, own, &mut masks)).collect()
        };
        let batch = Batch::new(&pairs, &masked, student.shape(), &self.specials, student.device())?;

        let passes = usize::from(self.settings.steps);
        let targets = self.teacher.targets(&source, &masked, passes, &quiet)?;
        let mode = Mode::training(self.settings.dropout as f32, dropout, self.products);
        let pass = Pass::of(student, &batch, &mode)?;
        let temperature = self.settings.temperature as f32;
        let tokens = ops::divergence(&pass.logits, &targets.logits, temperature, student.forbidden())?;
        let hidden = ops::distance(&pass.hidden, &targets.hidden)?;
        let both = (&tokens + (&hidden * self.settings.hidden_weight)?)?;
        Ok(Losses {
            total: with_length(&both, pass.length_loss.as_ref(), self.length_weight)?,
            tokens,
            hidden: Some(hidden),
            length: pass.length_loss,
            masked_tokens: batch.masked_tokens(),
            target_tokens: batch.target_tokens,
        })
    }
}

impl Dims {
    /// The pairs as they are or, unsupervised, their sources with what the teacher makes of them now. Where all slots of
    /// an Imputer are masked, nobody looks at a target.
    fn with_targets<'a>(&self, pairs: &[&'a Pair]) -> Result<Vec<Cow<'a, Pair>>> {
        let unread = self.teacher.network().shape().has_blanks() && self.settings.mask == Mask::Full;
        if unread || !self.settings.unsupervised {
            return Ok(pairs.iter().map(|&pair| Cow::Borrowed(pair)).collect());
        }
        let steps = Steps::new(self.settings.translation_steps)
            .ok_or_else(|| Error::Config("dims.translation_steps must be at least 1".into()))?;
        let options = DecodeOptions { max_batch_tokens: self.batch_tokens, ..DecodeOptions::new(steps) };
        let sources: Vec<Vec<u32>> = pairs.iter().map(|pair| pair.source.clone()).collect();
        let translations = self.teacher.translate(&sources, &options)?;
        let Specials { bos, eos, .. } = self.specials;
        let pairs = sources.into_iter().zip(translations).map(|(source, hypotheses)| {
            let words = hypotheses.into_iter().next().unwrap_or_default().tokens;
            Cow::Owned(Pair { source, target: [&[bos], words.as_slice(), &[eos]].concat() })
        });
        Ok(pairs.collect())
    }

    /// Whether the next canvas is masked as a whole.
    fn hides_all(&self, masks: &mut Rng) -> bool {
        match self.settings.mask {
            Mask::Full => true,
            Mask::Random => false,
            Mask::Mixed => masks.uniform() < 0.5,
        }
    }

    /// An Imputer's canvases. What is not masked shows the target as the teacher aligns it.
    fn hide_slots(
        &self,
        pairs: &[&Pair],
        source: &Source,
        masks: &mut Rng,
        quiet: &Mode,
    ) -> Result<Vec<Masked>> {
        let spellings: Vec<Spelling> = pairs.iter().map(|pair| Spelling::of(pair, &self.specials)).collect();
        let blank: Vec<Masked> = spellings.iter().map(|s| s.masks(&self.specials)).collect();
        let network = self.teacher.network();
        let hidden: Vec<Option<Vec<u32>>> = spellings
            .iter()
            .map(|s| (!self.hides_all(masks)).then(|| mask_slots(s.slots, SlotMask::Block, masks)))
            .collect();
        if hidden.iter().all(Option::is_none) {
            return Ok(blank);
        }
        let logits = self.teacher.targets(source, &blank, 1, quiet)?.logits;
        let paths = best_paths(&logits, &spellings.iter().collect::<Vec<_>>(), network.forbidden())?;
        let canvases = spellings.iter().zip(&paths).zip(blank).zip(hidden);
        Ok(canvases
            .map(|(((spelling, path), blank), hidden)| match hidden {
                Some(hidden) => spelling.canvas(Some(path), hidden, &self.specials),
                None => blank,
            })
            .collect())
    }

    /// `length_log_probs` are the teacher's.
    fn hide(&self, target: &[u32], length_log_probs: &[f32], masks: &mut Rng) -> Masked {
        let (mask, all) = (self.specials.mask, self.hides_all(masks));
        let beam = if all { self.settings.length_beam } else { 0 };
        let lengths = if beam > 0 { length_beam(length_log_probs, beam) } else { Vec::new() };
        let drawn = (!lengths.is_empty()).then(|| lengths[masks.below(lengths.len())]);
        match (drawn, all, self.settings.unsupervised) {
            (Some(inner), ..) => masks_only(inner, &self.specials),
            (None, true, _) => mask_all(target, mask),
            (None, false, false) => mask_target(target, mask, masks),
            (None, false, true) => mask_translation(target, mask, masks),
        }
    }
}

#[cfg(test)]
mod tests;
