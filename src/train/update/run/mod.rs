//! The training loop that all stages share: updates, validation, checkpoints, log.
//!
//! A stage passes its settings, data and initial weights as a [`StageSetup`], and its loss as an [`Objective`]. Update n
//! is a pure function of the seed, the data and the weights before it: batches, masks and dropout come from streams
//! named by n. So a stopped run continues exactly as if it had not been stopped. Several ranks may share the
//! micro-batches of an update ([`crate::train::update::ranks`]): all apply the same updates, and the first rank does
//! everything else.

mod halt;
mod sums;
mod validation;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::backprop::GradStore;

use crate::decode::Decoding;
use crate::model::Tensors;
use crate::model::{Backend, Network, Shape};
use crate::nn::ops::backward;
use crate::train::config::Train;
use crate::train::data::batches::Position;
use crate::train::data::feed::Feed;
use crate::train::data::texts::Texts;
use crate::train::objective::{Losses, Objective, Step};
use crate::train::observe::event::{self, Event};
use crate::train::observe::log::Log;
use crate::train::observe::progress::Progress;
use crate::train::observe::tensorboard::Events;
use crate::train::rng::Rng;
use crate::train::update::checkpoint::{Checkpoint, State, Store, restore};
use crate::train::update::ema::Ema;
use crate::train::update::optimizer::{AdamW, Optimizer};
use crate::train::update::ranks::{RankContext, Reducer};
use crate::train::update::rate::LargeProduct;
use crate::train::update::rate::Throughput;
use crate::train::update::schedule::Schedule;
use crate::train::weights::{Weights, frozen};
use crate::{Error, Result};
use halt::Halt;
use sums::{Means, Pending, UpdateStats};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    /// Stopped by the flag, after saving a checkpoint.
    Interrupted,
}

/// The weights that the stage publishes, and that are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The moving average, if the run keeps one.
    Average,
    /// The trained weights, even if the run keeps an average.
    Trained,
}

/// Settings, data and initial weights of a stage.
pub struct StageSetup<'a> {
    pub train: Train,
    pub schedule: Schedule,
    /// Folder of `checkpoints/` and `log.jsonl`.
    pub output: PathBuf,
    /// The run's configuration, for its checkpoints.
    pub config: String,
    pub shape: Shape,
    pub texts: &'a Texts,
    /// Initial weights of a new run.
    pub initial: Tensors,
    pub published: Published,
    /// Decodings of each validation.
    pub validated: Vec<Decoding>,
    /// The one of these whose BLEU decides which checkpoints are the best.
    pub scored: Decoding,
    /// Whether to validate before the first update, too. For initial weights that are a complete model.
    pub validate_at_start: bool,
}

pub struct Run<'a, O> {
    stage: StageSetup<'a>,
    context: &'a RankContext,
    reducer: Reducer,
    objective: O,
    backend: Backend,
    weights: Weights,
    ema: Option<Ema>,
    /// The published weights: tensors without gradients, on memory that follows every update.
    published: Tensors,
    /// The network over the published weights, for validation.
    validated: Network,
    optimizer: Optimizer,
    feed: Feed<'a>,
    rng: Rng,
    store: Store,
    /// `None` on ranks other than the first.
    log: Option<Log>,
    state: State,
}

impl<'a, O: Objective> Run<'a, O> {
    /// Starts a run, or continues from the last checkpoint in its folder. `objective` gets the moving average, if the
    /// run keeps one: tensors without gradients, on memory that follows every update.
    ///
    /// # Errors
    /// A checkpoint of another seed or shape, or one that cannot be read; too little space on the disk; a failure of
    /// another rank.
    pub fn prepare(
        stage: StageSetup<'a>,
        context: &'a RankContext,
        backend: Backend,
        objective: impl FnOnce(Option<Tensors>) -> Result<O>,
    ) -> Result<Self> {
        let StageSetup { train, shape, .. } = &stage;
        let weights = Weights::of(shape, &stage.initial, &backend)?;
        let named = || weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
        let mut optimizer = Optimizer::new(named(), AdamW::of(train))?;
        let ema = (train.ema_decay > 0.0).then(|| Ema::new(named(), train.ema_decay)).transpose()?;
        // The first rank cleans up after an interrupted save before the others open the store.
        if !context.is_first() {
            context.barrier()?;
        }
        let store = Store::open(&stage.output.join("checkpoints"), train.keep_last, train.keep_best)?;
        if context.is_first() {
            context.barrier()?;
        }
        // Weights and two moments, in f32.
        let copies = 3 + u64::from(ema.is_some());
        store.require_space(4 * weights.count() as u64 * copies)?;
        let state = match store.last()? {
            None => State {
                update: 0,
                position: Position::default(),
                seed: train.seed,
                skipped: 0,
                score: None,
                best: Default::default(),
                validations_without_gain: 0,
                config: stage.config.clone(),
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
                    // A checkpoint without an average starts it with its weights.
                    restore(&ema.vars(), saved.ema.as_ref().unwrap_or(&saved.model), &path)?;
                }
                State { config: stage.config.clone(), ..saved.state }
            }
        };
        let averaged = ema.as_ref().map(Ema::tensors);
        let published = match (&ema, stage.published) {
            (Some(ema), Published::Average) => ema.tensors(),
            _ => weights.tensors(),
        };
        let validated = frozen(shape, &published, &backend)?;
        let rng = Rng::from_seed(train.seed);
        let feed = stage.texts.training.feed(train.batch_tokens, &rng, state.position)?;
        let log = if context.is_first() { Some(open_log(&stage)?) } else { None };
        let objective = objective(averaged)?;
        // All ranks must have read the last checkpoint before the first one saves another.
        context.barrier()?;
        Ok(Self {
            objective,
            reducer: context.reducer(&backend)?,
            context,
            stage,
            backend,
            weights,
            ema,
            published,
            validated,
            optimizer,
            feed,
            rng,
            store,
            log,
            state,
        })
    }

    /// Trains to the last update. `stop` is checked after each update; when it is set, the run saves and ends.
    ///
    /// # Errors
    /// Errors of the data, the network or the disk; too many consecutive updates without a finite gradient; a failure of
    /// another rank.
    pub fn train(&mut self, stop: &AtomicBool) -> Result<End> {
        let training = &self.stage.texts.training;
        let matrix_rate =
            LargeProduct::new(self.backend.device(), self.stage.train.products.into())?.rate()?;
        self.log_event(&Event::Start(event::Start {
            update: self.state.update,
            config_digest: self.state.config_digest(),
            parameters: self.weights.count(),
            pairs: training.pairs(),
            skipped: training.skipped(),
            corpora: training.shares(),
            device: self.backend.device_name(),
            matrix_rate,
        }))?;
        let progress = if self.context.is_first() {
            Progress::new("updates", self.stage.train.updates, self.state.update)
        } else {
            Progress::silent()
        };
        if self.context.is_first()
            && let Some(reason) = self.backend.cpu_fallback_reason()
        {
            progress.announce(format!("computing on the CPU: {reason}"));
        }
        let result = self.training_loop(stop, &progress, matrix_rate);
        progress.finish();
        let reason = match &result {
            Ok((_, reason)) => (*reason).to_string(),
            Err(error) => error.to_string(),
        };
        let logged = self.log_event(&Event::Stop(event::Stop { update: self.state.update, reason }));
        let (end, _) = result?;
        logged.map(|()| end)
    }

    /// Returns how the run ended, and the reason for the log.
    fn training_loop(
        &mut self,
        stop: &AtomicBool,
        progress: &Progress,
        matrix_rate: f64,
    ) -> Result<(End, &'static str)> {
        let train = self.stage.train.clone();
        if self.stage.validate_at_start && self.state.update == 0 && self.state.score.is_none() {
            self.validate(progress)?;
            self.save()?;
        }
        let mut throughput = Throughput::start();
        let mut means = Means::default();

        let (end, reason) = loop {
            let halt = self.context.broadcast(self.halt(stop).map_or(0, |halt| halt as u32))?;
            if let Some(halt) = Halt::ALL.into_iter().find(|&known| known as u32 == halt) {
                break halt.outcome();
            }
            let update = self.state.update + 1;
            let rate = self.stage.schedule.rate(update);
            let result = self.update(update, rate)?;
            throughput.add(result.target_tokens);
            means.add(&result);
            self.state.update = update;
            self.state.position = self.feed.position();
            self.state.score = None;
            progress.advance();
            if !result.applied {
                self.state.skipped += 1;
                self.log_event(&Event::Skip(event::Skip { update, skipped: self.state.skipped }))?;
            }
            if update.is_multiple_of(train.log_every) {
                let rates = throughput.take();
                let event = event::Train {
                    update,
                    epoch: self.feed.epoch(),
                    loss: means.per_token(means.loss),
                    hidden_loss: means.hidden_loss.map(|sum| means.per_token(sum)),
                    length_loss: means.length_loss.map(|sum| means.per_token(sum)),
                    gradient_norm: means.norm(),
                    learning_rate: rate,
                    tokens_per_second: rates.tokens,
                    matrix_share: rates.operations / matrix_rate,
                    padding_share: self.feed.padding_share(),
                };
                progress.show(&event);
                self.log_event(&Event::Train(event))?;
                means = Means::default();
            }
            let last = update == train.updates;
            let validates = last || update.is_multiple_of(train.validate_every);
            if validates {
                self.validate(progress)?;
            }
            // Saves after each validation, so that the best weights are kept.
            if validates || update.is_multiple_of(train.checkpoint_every) {
                self.save()?;
                throughput = Throughput::start();
            }
        };
        if end == End::Interrupted {
            self.save()?;
        }
        Ok((end, reason))
    }

    /// The reason to end before the next update, if there is one.
    fn halt(&self, stop: &AtomicBool) -> Option<Halt> {
        let Train { updates, patience, .. } = self.stage.train;
        if self.state.update >= updates {
            Some(Halt::Finished)
        } else if patience > 0 && self.state.validations_without_gain >= patience {
            Some(Halt::NoGain)
        } else {
            stop.load(Ordering::Relaxed).then_some(Halt::Interrupted)
        }
    }

    /// One update over `accumulate` micro-batches, each weighted by its masked tokens. This rank computes its share of
    /// them.
    fn update(&mut self, update: u64, rate: f64) -> Result<UpdateStats> {
        let accumulate = self.stage.train.accumulate as u64;
        let mut gradients: Option<GradStore> = None;
        let (mut result, mut pending) = (UpdateStats::default(), Pending::default());
        for micro in 0..accumulate {
            if !self.context.takes(micro) {
                self.feed.next_batch()?;
                continue;
            }
            let losses = self.losses((update - 1) * accumulate + micro)?;
            let fresh = backward(&(&losses.total * losses.masked_tokens as f64)?)?;
            match &mut gradients {
                None => gradients = Some(fresh),
                Some(sum) => sum.extend(fresh)?,
            }
            result.count(&losses);
            pending.add(&losses);
        }
        let Some(gradients) = gradients else {
            return Err(Error::Config(
                "train.accumulate must be at least 1, and a multiple of train.ranks".into(),
            ));
        };
        let gradients = self.optimizer.gradients(&gradients)?;
        result.count_all(self.context)?;
        let gradients = self.reducer.sum(gradients)?;
        let scale = 1.0 / result.masked_tokens as f64;
        let (outcome, values) = self.optimizer.apply(&gradients, scale, rate, &pending.scalars)?;
        result.read(&pending, &values);
        result.add_all(self.context)?;
        if let (true, Some(ema)) = (outcome.applied, &mut self.ema) {
            ema.update()?;
        }
        Ok(UpdateStats { norm: outcome.norm, applied: outcome.applied, ..result })
    }

    /// The losses of micro-batch `index` of the run, counted from 0.
    fn losses(&mut self, index: u64) -> Result<Losses> {
        let pairs = self.feed.next_batch()?;
        self.objective.losses(Step {
            student: &self.weights.network,
            pairs: &pairs,
            masks: self.rng.fork("masks", index),
            dropout: self.rng.fork("dropout", index).next_u64(),
        })
    }

    /// The published weights.
    pub fn published(&self) -> &Tensors {
        &self.published
    }

    /// Up to `count` checkpoints with the best scores, best first.
    pub fn best(&self, count: usize) -> Result<Vec<PathBuf>> {
        self.store.best(count)
    }

    /// Saves a checkpoint on the first rank; all ranks have the same weights.
    fn save(&mut self) -> Result<()> {
        if !self.context.is_first() {
            return Ok(());
        }
        let checkpoint = Checkpoint {
            model: self.weights.tensors(),
            ema: self.ema.as_ref().map(Ema::tensors),
            optimizer: self.optimizer.state()?,
            state: self.state.clone(),
        };
        let path = self.store.save(&checkpoint)?;
        let (update, score) = (self.state.update, self.state.score);
        self.log_event(&Event::Checkpoint(event::Saved { update, path, score }))
    }

    fn log_event(&mut self, event: &Event) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(event))
    }
}

fn open_log(stage: &StageSetup<'_>) -> Result<Log> {
    let log = Log::open(&stage.output.join("log.jsonl"))?;
    if stage.train.tensorboard {
        return Ok(log.mirrored(Events::open(&stage.output.join("tensorboard"))?));
    }
    Ok(log)
}
