//! The model thread. It repeats: plan a batch, encode new sentences, run one decoder pass, answer finished
//! sentences.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::active::ActiveSentence;
use super::attempts::{Attempts, message_of};
use super::plan::{BatchShape, Candidate, Priority, plan_batch, select_admissions};
use super::shared::{EnginePhase, Job, Shared, State};
use crate::decode::{Prediction, Translator, apply_all};
use crate::metrics::Rejected;
use crate::{Error, Result};

/// Runs until the engine is drained or the network is broken. All sentences are answered in both cases.
pub fn supervise<T: Translator>(translator: T, shared: &Shared) {
    let mut worker = Worker {
        network: Attempts::new(translator),
        shared,
        arriving: Vec::new(),
        active: Vec::new(),
        left_waiting: false,
        full_at: usize::MAX,
        max_encoded: usize::MAX,
    };
    let end = catch_unwind(AssertUnwindSafe(|| {
        let _helpers = helpers(shared.options.threads)?;
        worker.run()
    }));
    let reason = match end {
        Ok(Ok(())) => None,
        Ok(Err(Error::EngineDead(reason))) => Some(reason),
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(message_of(panic.as_ref())),
    };
    let mut state = shared.lock();
    state.phase = EnginePhase::Stopped(reason.clone());
    let waiting = state.queue.take_if(|_| true);
    drop(state);
    if let Some(reason) = &reason {
        tracing::error!(
            reason,
            waiting = waiting.len(),
            running = worker.active.len(),
            "the model thread died"
        );
        let arriving = worker.arriving.into_iter().map(|(_, job)| job);
        let running = worker.active.into_iter().map(|active| active.job);
        let unanswered = running.chain(arriving).chain(waiting);
        unanswered.for_each(|job| job.answer(Err(Error::EngineDead(reason.clone()))));
    }
    shared.stopped.send_replace(Some(reason.map_or(Ok(()), Err)));
}

/// The thread pool for passes, which includes this thread. A pool of other threads would add a switch to another
/// thread, 20 to 50 µs whenever a core sleeps.
fn helpers(threads: NonZeroUsize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .use_current_thread()
        .thread_name(|index| format!("tutti-model-{index}"))
        .build()
        .map_err(|error| Error::EngineDead(format!("the threads of the model cannot be started: {error}")))
}

struct Worker<'a, T: Translator> {
    network: Attempts<T>,
    shared: &'a Shared,
    /// Taken from the queue and not yet encoded. They stay here if the device has no memory for them.
    arriving: Vec<(Priority, Job)>,
    /// Encoded and not finished, in the current pass or not.
    active: Vec<ActiveSentence<T::Memory>>,
    /// Whether the current pass could not take all waiting sentences.
    left_waiting: bool,
    /// Number of active sentences at which the device had no memory for more.
    full_at: usize,
    /// Maximum number of sentences that are encoded at once; it is lowered while memory is scarce.
    max_encoded: usize,
}

impl<T: Translator> Worker<'_, T> {
    fn run(&mut self) -> Result<()> {
        while self.gather() {
            let started = Instant::now();
            self.encode()?;
            let work = self.pass()?;
            let elapsed = started.elapsed();
            self.shared.lock().throughput.record(work, elapsed, self.left_waiting);
        }
        Ok(())
    }

    /// Waits for work, then takes the sentences that join the next pass from the queue. Returns false when drained.
    fn gather(&mut self) -> bool {
        loop {
            self.shared.beat();
            let now = Instant::now();
            self.discard_obsolete(now);
            let mut state = self.shared.lock();
            state.queue.set_running(self.remaining_work());
            state.held_since = self.arriving.iter().map(|(_, job)| job.submitted).min();
            if self.active.is_empty() && self.arriving.is_empty() {
                if state.queue.is_empty() {
                    if state.phase != EnginePhase::Open {
                        return false;
                    }
                    self.shared.beat_idle();
                    drop(self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner));
                    continue;
                }
                if let Some(delay) = self.remaining_batch_delay(&state, now) {
                    self.sleep(state, delay);
                    continue;
                }
            }
            state.queue.advance();
            // Sentences that wait for memory go first.
            if self.arriving.is_empty() {
                self.arriving = self.pick(&mut state);
                state.queue.set_running(self.remaining_work());
            }
            self.left_waiting = !state.queue.is_empty();
            return true;
        }
    }

    /// Discards cancelled and late sentences.
    fn discard_obsolete(&mut self, now: Instant) {
        let waiting = self.shared.take_obsolete(&mut self.shared.lock(), now);
        let arriving = self.arriving.extract_if(.., |(_, job)| job.is_obsolete(now)).map(|(_, job)| job);
        let running =
            self.active.extract_if(.., |active| active.job.is_obsolete(now)).map(|active| active.job);
        waiting
            .into_iter()
            .chain(arriving)
            .chain(running)
            .for_each(|job| job.discard(now, &self.shared.metrics));
    }

    /// Priority and remaining work of all sentences that were taken from the queue.
    fn remaining_work(&self) -> impl Iterator<Item = (Priority, u64)> {
        let arriving =
            self.arriving.iter().map(|(priority, job)| (*priority, self.shared.cost(&job.item).work()));
        self.active.iter().map(ActiveSentence::remaining_work).chain(arriving)
    }

    /// How long an idle thread still waits for more sentences; `None` if it should start.
    fn remaining_batch_delay(&self, state: &State, now: Instant) -> Option<Duration> {
        let max_delay = self.shared.options.max_delay;
        if max_delay.is_zero() || state.phase != EnginePhase::Open {
            return None;
        }
        let window: Vec<Candidate> = state.queue.window(self.shared.options.lookahead).collect();
        let chosen = plan_batch(&window, self.shared.budget());
        let rows: usize = window.iter().map(|candidate| candidate.shape.rows).sum();
        let full = chosen.len() < window.len()
            || rows >= self.shared.options.max_batch_rows
            || window.len() == self.shared.options.lookahead;
        let waited = now.saturating_duration_since(state.queue.oldest()?);
        max_delay.checked_sub(waited).filter(|rest| !full && !rest.is_zero())
    }

    fn sleep(&self, state: MutexGuard<'_, State>, delay: Duration) {
        self.shared.beat_idle();
        drop(self.shared.changed.wait_timeout(state, delay).unwrap_or_else(PoisonError::into_inner));
    }

    fn pick(&self, state: &mut State) -> Vec<(Priority, Job)> {
        let active: Vec<Candidate> = self.active.iter().map(ActiveSentence::candidate).collect();
        let window = state.queue.window(self.shared.options.lookahead);
        let priorities = select_admissions(&active, window, self.shared.budget());
        let take = |priority| state.queue.take(priority).map(|entry| (priority, entry.payload));
        priorities.into_iter().filter_map(take).collect()
    }

    /// Encodes the sentences taken from the queue. If the device has too little memory, half as many are encoded
    /// in the next pass, after an active sentence has finished. A sentence without room on an idle device is
    /// answered with the error.
    fn encode(&mut self) -> Result<()> {
        let running = self.active.len();
        let count = self.arriving.len().min(self.max_encoded);
        if count == 0 || running >= self.full_at {
            return Ok(());
        }
        self.full_at = usize::MAX;
        match self.encode_first(count) {
            Ok(()) if self.arriving.is_empty() => self.max_encoded = usize::MAX,
            Ok(()) => self.max_encoded = self.max_encoded.saturating_mul(2),
            Err(Error::DeviceMemory { bytes, free }) => {
                self.shared.metrics.out_of_memory(1);
                if self.max_encoded == usize::MAX {
                    tracing::warn!(bytes, free, sentences = count, running, "the device is out of memory");
                }
                self.max_encoded = (count / 2).max(1);
                if running > 0 {
                    self.full_at = running;
                } else if count == 1 {
                    let (_, job) = self.arriving.remove(0);
                    self.shared.metrics.rejected(Rejected::Memory, 1);
                    job.answer(Err(Error::DeviceMemory { bytes, free }));
                }
            }
            Err(error) => return Err(error),
        }
        self.left_waiting |= !self.arriving.is_empty();
        Ok(())
    }

    fn encode_first(&mut self, count: usize) -> Result<()> {
        let metrics = &self.shared.metrics;
        let picked_at = Instant::now();
        let first = &self.arriving[..count];
        let sources: Vec<&[u32]> = first.iter().map(|(_, job)| job.item.source.as_slice()).collect();
        let encoded = self.network.encode(&sources)?;
        let encoded_at = Instant::now();
        let real = sources.iter().map(|source| source.len()).sum();
        let padded = sources.len() * sources.iter().map(|source| source.len()).max().unwrap_or(0);
        metrics.encoded(real, padded, encoded_at.duration_since(picked_at));
        let rules = self.network.rules();
        for ((priority, mut job), encoded) in self.arriving.drain(..count).zip(encoded) {
            metrics.picked_up(picked_at.duration_since(job.submitted));
            match encoded {
                Ok(encoded) => {
                    job.counted = metrics.running();
                    self.active
                        .extend(ActiveSentence::new(job, priority, encoded, &rules, picked_at, encoded_at));
                }
                Err(error) => job.fail(error, metrics),
            }
        }
        Ok(())
    }

    /// Runs one decoder pass over the batch and answers the finished sentences. Returns the work done, in tokens.
    fn pass(&mut self) -> Result<u64> {
        let candidates: Vec<Candidate> = self.active.iter().map(ActiveSentence::candidate).collect();
        let batch = plan_batch(&candidates, self.shared.budget());
        if batch.is_empty() {
            return Ok(0);
        }
        let rows: Vec<_> = batch.iter().flat_map(|&index| self.active[index].rows()).collect();
        let real = batch.iter().map(|&index| self.active[index].target_tokens()).sum();
        let rows_of: Vec<usize> = batch.iter().map(|&index| candidates[index].shape.rows).collect();
        let source = &self.active[batch[0]].job.item.source;
        let started = Instant::now();
        let answers = self.network.decode(&rows, &rows_of, source)?;
        let done = Instant::now();
        let shapes = || batch.iter().map(|&index| candidates[index].shape);
        self.count(shapes(), real, done.duration_since(started));
        drop(rows);
        self.apply_predictions(&batch, answers, (started, done));
        self.answer(Instant::now());
        Ok(shapes().map(|shape| shape.tokens() as u64).sum())
    }

    fn count(&self, shapes: impl Iterator<Item = BatchShape> + Clone, real: usize, took: Duration) {
        let rows: usize = shapes.clone().map(|shape| shape.rows).sum();
        let source = shapes.clone().map(|shape| shape.source).max().unwrap_or(0);
        let target = shapes.map(|shape| shape.target).max().unwrap_or(0);
        self.shared.metrics.decoded(rows, real, rows * target, rows * (source + target), took);
    }

    /// Applies the predictions of a pass to the sentences of the batch. A sentence without valid predictions fails
    /// alone.
    fn apply_predictions(
        &mut self,
        batch: &[usize],
        answers: Vec<Result<Vec<Vec<Prediction>>>>,
        (started, ended): (Instant, Instant),
    ) {
        let mut failed = Vec::new();
        let mut of_each = vec![None; self.active.len()];
        let mut given = Vec::with_capacity(batch.len());
        for (&index, answer) in batch.iter().zip(answers) {
            match answer {
                Ok(answer) => given.push((index, answer)),
                Err(error) => failed.push((index, error)),
            }
        }
        for (index, answer) in &given {
            of_each[*index] = Some(answer.as_slice());
        }
        let work =
            self.active.iter_mut().zip(&of_each).filter_map(|(active, own)| Some((active.beam(), (*own)?)));
        let outcomes = apply_all(work.collect());
        for ((index, _), outcome) in given.iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.active[*index].record_pass(started, ended),
                Err(error) => failed.push((*index, error)),
            }
        }
        failed.sort_unstable_by_key(|(index, _)| *index);
        for (index, error) in failed.into_iter().rev() {
            self.active.swap_remove(index).job.fail(error, &self.shared.metrics);
        }
    }

    /// Answers finished sentences. Metrics are updated first, so that a caller with its answer finds it there.
    fn answer(&mut self, now: Instant) {
        for active in self.active.extract_if(.., |active| active.finished()) {
            self.shared.metrics.finished(active.steps_used());
            active.finish(now);
        }
    }
}
