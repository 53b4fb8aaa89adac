//! The training loop of `train cmlm`: from a tokenizer and parallel text to checkpoints and a bundle.
//!
//! Everything that happens in update n is a pure function of the seed, the data and the weights before
//! it: batches, masks and dropout are drawn from streams named by n. So a run that was stopped goes on
//! exactly as if it had not been.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::backprop::GradStore;

use super::batches::{Batches, Position};
use super::checkpoint::{Checkpoint, State, Store, Tensors, average, restore};
use super::config::Config;
use super::corpus::{Corpus, read_lines};
use super::ema::Ema;
use super::evaluate::{TestSet, evaluate};
use super::log::{self, Event, Log, Progress, Throughput};
use super::masking::mask_target;
use super::objective::{Batch, Loss};
use super::optimizer::Optimizer;
use super::rng::Rng;
use super::weights::{Weights, frozen};
use crate::decode::Steps;
use crate::model::{Backend, Bundle, Config as ModelConfig, Shape};
use crate::nn::Mode;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// Steps at which a run is validated; the last one decides which checkpoints are the best.
const VALIDATED_STEPS: [u8; 2] = [1, 4];
const SAMPLES: usize = 3;
/// Classes of the length head: a translation may be up to 64 tokens shorter or 63 longer.
const LENGTH_CLASSES: usize = 128;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    /// Stopped by the flag; the last checkpoint holds everything.
    Interrupted,
}

/// The shape that a configuration and a tokenizer ask for.
pub fn shape(config: &Config, tokenizer: &Tokenizer) -> Result<Shape> {
    let m = &config.model;
    let shape = Shape {
        encoder_layers: m.encoder_layers,
        decoder_layers: m.decoder_layers,
        d_model: m.d_model,
        ffn: m.ffn,
        heads: m.heads,
        vocab: tokenizer.vocab_size(),
        max_positions: m.max_positions,
        length_classes: LENGTH_CLASSES,
    };
    shape.validate()?;
    Ok(shape)
}

/// Trains, going on from the last checkpoint in `config.output` if there is one. `stop` is looked at
/// after each update; when it is set, everything is saved first.
///
/// Writes `checkpoints/`, `log.jsonl`, and at the end `bundle/` with the final weights (the moving
/// average, where the run keeps one).
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let backend = Backend::cpu();
    let mut run = Run::prepare(config, &tokenizer, backend)?;
    let end = run.train(stop)?;
    if end == End::Finished {
        let path = config.output.join("bundle");
        write_bundle(config, &tokenizer, &run.best_guess()?, &path)?;
    }
    Ok(end)
}

struct Run<'a> {
    config: &'a Config,
    tokenizer: &'a Tokenizer,
    backend: Backend,
    shape: Shape,
    corpus: Corpus,
    valid: TestSet,
    weights: Weights,
    ema: Option<Ema>,
    optimizer: Optimizer,
    batches: Batches,
    rng: Rng,
    store: Store,
    log: Log,
    state: State,
}

impl<'a> Run<'a> {
    fn prepare(config: &'a Config, tokenizer: &'a Tokenizer, backend: Backend) -> Result<Self> {
        let (train, data) = (&config.train, &config.data);
        let shape = shape(config, tokenizer)?;
        let limit = data.max_tokens_per_sentence.min(shape.max_positions);
        let mut corpus = Corpus::default();
        for (source, target) in data.train_files() {
            corpus.extend(Corpus::read(&source, &target, limit, data.on_bad_line, |s| tokenizer.encode(s))?);
        }
        let (source, target) = data.valid_files();
        let valid = read_test_set(&source, &target, train.valid_sentences, tokenizer)?;

        let weights = Weights::initial(&shape, train.seed, &backend)?;
        let named = || weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
        let mut optimizer = Optimizer::new(named(), train.adamw())?;
        let ema = (train.ema_decay > 0.0).then(|| Ema::new(named(), train.ema_decay)).transpose()?;
        let store = Store::open(&config.output.join("checkpoints"), train.keep_last, train.keep_best)?;
        let text = config.to_toml()?;
        let state = match store.last()? {
            None => State {
                update: 0,
                position: Position::default(),
                seed: train.seed,
                skipped: 0,
                score: None,
                best: Default::default(),
                config: text,
            },
            Some(path) => {
                let saved = Checkpoint::load(&path, backend.device())?;
                if saved.state.seed != train.seed {
                    return Err(Error::Config(format!(
                        "train.seed = {} but {} was made with seed {}; choose another output folder",
                        train.seed,
                        path.display(),
                        saved.state.seed
                    )));
                }
                restore(&weights.vars, &saved.model, &path)?;
                optimizer.load_state(&saved.optimizer)?;
                if let Some(ema) = &ema {
                    // A run that begins to average later begins with the weights it has.
                    restore(&ema.vars(), saved.ema.as_ref().unwrap_or(&saved.model), &path)?;
                }
                State { score: None, config: text, ..saved.state }
            }
        };
        let rng = Rng::from_seed(train.seed);
        let batches = Batches::new(corpus.lengths(), train.batch_tokens, &rng, state.position)?;
        let log = Log::open(&config.output.join("log.jsonl"))?;
        Ok(Self {
            config,
            tokenizer,
            backend,
            shape,
            corpus,
            valid,
            weights,
            ema,
            optimizer,
            batches,
            rng,
            store,
            log,
            state,
        })
    }

    fn train(&mut self, stop: &AtomicBool) -> Result<End> {
        let train = &self.config.train;
        let schedule = train.schedule();
        let (skipped, device) = (self.corpus.skipped, self.backend.device_name().to_string());
        let start =
            log::Start::new(&self.state, self.weights.count(), self.corpus.pairs.len(), skipped, device);
        self.log.write(&Event::Start(start))?;
        let progress = Progress::new(train.updates, self.state.update);
        let mut throughput = Throughput::start();
        let mut means = Means::default();

        let end = loop {
            if self.state.update >= train.updates {
                break End::Finished;
            }
            if stop.load(Ordering::Relaxed) {
                break End::Interrupted;
            }
            let update = self.state.update + 1;
            let rate = schedule.rate(update);
            let result = self.update(update, rate)?;
            throughput.add(result.target_tokens);
            means.add(&result);
            self.state.update = update;
            self.state.position = self.batches.position();
            self.state.score = None;
            progress.advance();
            if !result.applied {
                self.state.skipped += 1;
                self.log.write(&Event::Skip(log::Skip { update, skipped: self.state.skipped }))?;
            }
            if update.is_multiple_of(train.log_every) {
                let event = log::Train {
                    update,
                    epoch: self.state.position.epoch,
                    loss: means.loss(),
                    length_loss: means.length_loss(),
                    gradient_norm: means.norm(),
                    learning_rate: rate,
                    tokens_per_second: throughput.take(),
                    padding_share: self.batches.plan().padding_share(),
                };
                progress.show(&event);
                self.log.write(&Event::Train(event))?;
                means = Means::default();
            }
            let last = update == train.updates;
            if last || update.is_multiple_of(train.validate_every) {
                self.validate(&progress)?;
                throughput = Throughput::start();
            }
            if last || update.is_multiple_of(train.checkpoint_every) {
                self.save()?;
            }
        };
        if end == End::Interrupted {
            self.save()?;
        }
        progress.finish();
        let reason = if end == End::Finished { "finished" } else { "interrupted" };
        self.log.write(&Event::Stop(log::Stop { update: self.state.update, reason: reason.into() }))?;
        Ok(end)
    }

    /// One optimiser update over `accumulate` micro-batches, each weighted by its masked tokens.
    fn update(&mut self, update: u64, rate: f64) -> Result<Update> {
        let train = &self.config.train;
        let mut gradients: Option<GradStore> = None;
        let mut result = Update::default();
        for micro in 0..train.accumulate as u64 {
            let index = (update - 1) * train.accumulate as u64 + micro;
            let batch = self.next_batch(index)?;
            let seed = self.rng.fork("dropout", index).next_u64();
            let mode = Mode::training(train.dropout as f32, seed, train.products.into());
            let loss = Loss::cmlm(&self.weights.network, &batch, train.label_smoothing as f32, &mode)?;
            let masked = batch.masked_tokens() as f64;
            let total = (loss.total(train.length_loss_weight)? * masked)?;
            let fresh = total.backward()?;
            match &mut gradients {
                None => gradients = Some(fresh),
                Some(sum) => sum.extend(fresh)?,
            }
            result.masked_tokens += batch.masked_tokens();
            result.target_tokens += batch.target_tokens;
            result.loss += f64::from(loss.tokens.to_scalar::<f32>()?) * masked;
            result.length_loss += f64::from(loss.length.to_scalar::<f32>()?) * masked;
        }
        let Some(gradients) = gradients else {
            return Err(Error::Config("train.accumulate must be at least 1".into()));
        };
        let outcome = self.optimizer.step(&gradients, 1.0 / result.masked_tokens as f64, rate)?;
        if let (true, Some(ema)) = (outcome.applied, &mut self.ema) {
            ema.update()?;
        }
        Ok(Update { norm: outcome.norm, applied: outcome.applied, ..result })
    }

    fn next_batch(&mut self, index: u64) -> Result<Batch> {
        let specials = self.tokenizer.specials();
        let mut rng = self.rng.fork("masks", index);
        let pairs: Vec<_> = self.batches.next_batch()?.iter().map(|&i| &self.corpus.pairs[i]).collect();
        let masked: Vec<_> =
            pairs.iter().map(|pair| mask_target(&pair.target, specials.mask, &mut rng)).collect();
        Batch::new(&pairs, &masked, self.shape.length_classes, &specials, self.backend.device())
    }

    /// The weights that a user would get now: the moving average, where the run keeps one.
    fn best_guess(&self) -> Result<Tensors> {
        match &self.ema {
            Some(ema) => Ok(ema.tensors()),
            None => self.weights.snapshot(),
        }
    }

    fn validate(&mut self, progress: &Progress) -> Result<()> {
        let begin = Instant::now();
        let network = frozen(&self.shape, &self.best_guess()?, &self.backend)?;
        let (mut scores, mut samples) = (Vec::new(), Vec::new());
        for steps in VALIDATED_STEPS.into_iter().filter_map(Steps::new) {
            let done =
                evaluate(&network, self.tokenizer, &self.valid, steps, 1, self.config.train.batch_tokens)?;
            let (bleu, chrf) = (done.measured.bleu, done.measured.chrf);
            scores.push(log::Score { steps: steps.get(), bleu, chrf });
            progress.say(format!(
                "update {}: BLEU {bleu:.2}, chrF {chrf:.2} at {steps} step(s)",
                self.state.update
            ));
            for i in 0..SAMPLES.min(self.valid.len()) {
                let sample = log::Sample {
                    steps: steps.get(),
                    source: self.valid.sources[i].clone(),
                    reference: self.valid.references[i].clone(),
                    translation: done.texts[i].clone(),
                };
                progress.say(format!("  {} → {}", sample.source, sample.translation));
                samples.push(sample);
            }
            self.state.score = Some(bleu);
            let best = self.state.best.entry(format!("bleu@{steps}")).or_insert(f64::NEG_INFINITY);
            *best = best.max(bleu);
        }
        self.log.write(&Event::Valid(log::Valid {
            update: self.state.update,
            seconds: begin.elapsed().as_secs_f64(),
            sentences: self.valid.len(),
            scores,
            samples,
        }))
    }

    fn save(&mut self) -> Result<()> {
        let checkpoint = Checkpoint {
            model: self.weights.snapshot()?,
            ema: self.ema.as_ref().map(Ema::tensors),
            optimizer: self.optimizer.state()?,
            state: self.state.clone(),
        };
        let path = self.store.save(&checkpoint)?;
        let (update, score) = (self.state.update, self.state.score);
        self.log.write(&Event::Checkpoint(log::Saved { update, path, score }))
    }
}

/// Writes a bundle with the mean weights of some checkpoints of a run: of their moving averages, where
/// each of them has one.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let paths: Vec<PathBuf> = checkpoints.iter().map(|c| c.join("ema.safetensors")).collect();
    let averaged = if paths.iter().all(|p| p.exists()) { paths } else { checkpoints.to_vec() };
    write_bundle(config, &tokenizer, &average(&averaged)?, output)
}

/// Positions that no training sentence can have reached stay out of the bundle: the server then splits
/// a longer sentence, instead of translating it with positions that were never trained.
fn write_bundle(config: &Config, tokenizer: &Tokenizer, weights: &Tensors, path: &Path) -> Result<()> {
    let data = &config.data;
    let mut shape = shape(config, tokenizer)?;
    shape.max_positions = shape.max_positions.min(data.max_tokens_per_sentence);
    let mut weights = weights.clone();
    for name in ["encoder.positions.weight", "decoder.positions.weight"] {
        if let Some(table) = weights.get_mut(name) {
            *table = table.narrow(0, 0, shape.max_positions)?;
        }
    }
    let model = ModelConfig::new(shape, &data.source_lang, &data.target_lang);
    let card = super::card::draft(&model, &config.to_toml()?);
    Bundle::save(path, &model, tokenizer, &weights, &card)
}

/// Reads the first `count` lines of a pair of files.
pub fn read_test_set(source: &Path, target: &Path, count: usize, tokenizer: &Tokenizer) -> Result<TestSet> {
    let (mut sources, mut references) = (read_lines(source)?, read_lines(target)?);
    if sources.len() != references.len() {
        return Err(Error::Data {
            path: PathBuf::from(target),
            line: references.len(),
            reason: format!("{} lines, but {} has {}", references.len(), source.display(), sources.len()),
        });
    }
    sources.truncate(count);
    references.truncate(count);
    TestSet::new(sources, references, tokenizer)
}

/// Sums over one update, then means.
#[derive(Clone, Copy, Debug, Default)]
struct Update {
    masked_tokens: usize,
    target_tokens: usize,
    loss: f64,
    length_loss: f64,
    norm: f64,
    applied: bool,
}

#[derive(Default)]
struct Means {
    updates: usize,
    masked_tokens: usize,
    loss: f64,
    length_loss: f64,
    norm: f64,
}

impl Means {
    fn add(&mut self, update: &Update) {
        self.updates += 1;
        self.masked_tokens += update.masked_tokens;
        self.loss += update.loss;
        self.length_loss += update.length_loss;
        self.norm += update.norm;
    }

    fn loss(&self) -> f64 {
        self.loss / self.masked_tokens.max(1) as f64
    }

    fn length_loss(&self) -> f64 {
        self.length_loss / self.masked_tokens.max(1) as f64
    }

    fn norm(&self) -> f64 {
        self.norm / self.updates.max(1) as f64
    }
}
