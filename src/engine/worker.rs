//! The model thread: plan, encode newcomers, one decoder pass, answer; again.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::active::ActiveSentence;
use super::attempts::{Attempts, message_of};
use super::plan::{Candidate, Priority, Shape, plan_batch, select_admissions};
use super::shared::{Job, Phase, Shared, State};
use crate::decode::{Prediction, Translator, apply_all};
use crate::metrics::Rejected;
use crate::{Error, Result};

/// Runs until drained or dead, and leaves nobody waiting either way.
pub fn supervise<T: Translator>(translator: T, shared: &Shared) {
    let mut worker = Worker {
        network: Attempts::new(translator),
        shared,
        arriving: Vec::new(),
        live: Vec::new(),
        left_waiting: false,
        full_at: usize::MAX,
        most: usize::MAX,
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
    state.phase = Phase::Stopped(reason.clone());
    let waiting = state.queue.take_if(|_| true);
    drop(state);
    if let Some(reason) = &reason {
        tracing::error!(
            reason,
            waiting = waiting.len(),
            running = worker.live.len(),
            "the model thread died"
        );
        let arriving = worker.arriving.into_iter().map(|(_, job)| job);
        let running = worker.live.into_iter().map(|live| live.job);
        let unanswered = running.chain(arriving).chain(waiting);
        unanswered.for_each(|job| job.answer(Err(Error::EngineDead(reason.clone()))));
    }
    shared.stopped.send_replace(Some(reason.map_or(Ok(()), Err)));
}

/// The pool that passes are computed in, with this thread as one of its own: it takes its part of a pass
/// where a pool of others would cost a way there and back, some 20 to 50 µs each time that a core slept.
fn helpers(threads: NonZeroUsize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .use_current_thread()
        .thread_name(|index| format!("tutti-model-{index}"))
        .build()
        .map_err(|error| Error::EngineDead(format!("no threads to compute with: {error}")))
}

struct Worker<'a, T: Translator> {
    network: Attempts<T>,
    shared: &'a Shared,
    /// Out of the queue and not yet encoded: for a moment, or until the device has memory for them.
    arriving: Vec<(Priority, Job)>,
    /// Encoded and not finished: those in the current pass and those that sit it out.
    live: Vec<ActiveSentence<T::Memory>>,
    /// The queue holds more than the current pass could take.
    left_waiting: bool,
    /// With so many live sentences the device had memory for no more.
    full_at: usize,
    /// So many newcomers are encoded at once, while memory is scarce.
    most: usize,
}

impl<T: Translator> Worker<'_, T> {
    fn run(&mut self) -> Result<()> {
        while self.gather() {
            let started = Instant::now();
            self.encode()?;
            let work = self.pass()?;
            let elapsed = started.elapsed();
            let throughput = &mut self.shared.lock().throughput;
            if work > 0 && (self.left_waiting || throughput.is_beaten_by(work, elapsed)) {
                throughput.record(work, elapsed);
            }
        }
        Ok(())
    }

    /// Waits for work, then takes out of the queue those who join the next pass. False when drained.
    fn gather(&mut self) -> bool {
        loop {
            self.shared.beat();
            let now = Instant::now();
            self.release(now);
            let mut state = self.shared.lock();
            state.queue.runs(self.work());
            state.held_since = self.arriving.iter().map(|(_, job)| job.submitted).min();
            if self.live.is_empty() && self.arriving.is_empty() {
                if state.queue.is_empty() {
                    if state.phase != Phase::Open {
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
            // Those that wait for memory come before all others.
            if self.arriving.is_empty() {
                self.arriving = self.pick(&mut state);
                state.queue.runs(self.work());
            }
            self.left_waiting = !state.queue.is_empty();
            return true;
        }
    }

    /// Lets go of everybody who has left or whose time is up.
    fn release(&mut self, now: Instant) {
        let waiting = self.shared.clear(&mut self.shared.lock(), now);
        let arriving = self.arriving.extract_if(.., |(_, job)| job.is_over(now)).map(|(_, job)| job);
        let running = self.live.extract_if(.., |live| live.job.is_over(now)).map(|live| live.job);
        waiting
            .into_iter()
            .chain(arriving)
            .chain(running)
            .for_each(|job| job.discard(now, &self.shared.metrics));
    }

    /// Whose turn it is, and what is left to do for them: everybody that is out of the queue.
    fn work(&self) -> impl Iterator<Item = (Priority, u64)> {
        let arriving =
            self.arriving.iter().map(|(priority, job)| (*priority, self.shared.cost(&job.item).work()));
        self.live.iter().map(ActiveSentence::left).chain(arriving)
    }

    /// How long an idle thread still waits for more sentences before it begins with those it has.
    fn remaining_batch_delay(&self, state: &State, now: Instant) -> Option<Duration> {
        let max_delay = self.shared.options.max_delay;
        if max_delay.is_zero() || state.phase != Phase::Open {
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
        let live: Vec<Candidate> = self.live.iter().map(ActiveSentence::candidate).collect();
        let window = state.queue.window(self.shared.options.lookahead);
        let priorities = select_admissions(&live, window, self.shared.budget());
        let take = |priority| state.queue.take(priority).map(|entry| (priority, entry.payload));
        priorities.into_iter().filter_map(take).collect()
    }

    /// Encodes those that arrive. Where the device has too little memory it is half as many the next time, once for
    /// each pass, and not before somebody has left; one for whom there is no room though nobody runs is told so.
    fn encode(&mut self) -> Result<()> {
        let running = self.live.len();
        let count = self.arriving.len().min(self.most);
        if count == 0 || running >= self.full_at {
            return Ok(());
        }
        self.full_at = usize::MAX;
        match self.encode_first(count) {
            Ok(()) if self.arriving.is_empty() => self.most = usize::MAX,
            Ok(()) => self.most = self.most.saturating_mul(2),
            Err(Error::DeviceMemory { bytes, free }) => {
                self.shared.metrics.out_of_memory(1);
                if self.most == usize::MAX {
                    tracing::warn!(bytes, free, sentences = count, running, "the device is out of memory");
                }
                self.most = (count / 2).max(1);
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
                    self.live
                        .extend(ActiveSentence::new(job, priority, encoded, &rules, picked_at, encoded_at));
                }
                Err(error) => job.fail(error, metrics),
            }
        }
        Ok(())
    }

    /// One decoder pass over the batch; answers those that are done with it. Gives the work done, in
    /// tokens.
    fn pass(&mut self) -> Result<u64> {
        let candidates: Vec<Candidate> = self.live.iter().map(ActiveSentence::candidate).collect();
        let batch = plan_batch(&candidates, self.shared.budget());
        if batch.is_empty() {
            return Ok(0);
        }
        let rows: Vec<_> = batch.iter().flat_map(|&index| self.live[index].rows()).collect();
        let real = batch.iter().map(|&index| self.live[index].target_tokens()).sum();
        let rows_of: Vec<usize> = batch.iter().map(|&index| candidates[index].shape.rows).collect();
        let source = &self.live[batch[0]].job.item.source;
        let started = Instant::now();
        let answers = self.network.decode(&rows, &rows_of, source)?;
        let done = Instant::now();
        let shapes = || batch.iter().map(|&index| candidates[index].shape);
        self.count(shapes(), real, done.duration_since(started));
        drop(rows);
        self.apply_predictions(&batch, answers);
        self.answer(done);
        Ok(shapes().map(|shape| shape.tokens() as u64).sum())
    }

    fn count(&self, shapes: impl Iterator<Item = Shape> + Clone, real: usize, took: Duration) {
        let rows: usize = shapes.clone().map(|shape| shape.rows).sum();
        let source = shapes.clone().map(|shape| shape.source).max().unwrap_or(0);
        let target = shapes.map(|shape| shape.target).max().unwrap_or(0);
        self.shared.metrics.decoded(rows, real, rows * target, rows * (source + target), took);
    }

    /// Hands each sentence of the batch its answers. One that has none, or that they do not suit, fails alone.
    fn apply_predictions(&mut self, batch: &[usize], answers: Vec<Result<Vec<Vec<Prediction>>>>) {
        let mut failed = Vec::new();
        let mut of_each = vec![None; self.live.len()];
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
        let work = self.live.iter_mut().zip(&of_each).filter_map(|(live, own)| Some((live.beam(), (*own)?)));
        let outcomes = apply_all(work.collect());
        for ((index, _), outcome) in given.iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.live[*index].passed(),
                Err(error) => failed.push((*index, error)),
            }
        }
        failed.sort_unstable_by_key(|(index, _)| *index);
        for (index, error) in failed.into_iter().rev() {
            self.live.swap_remove(index).job.fail(error, &self.shared.metrics);
        }
    }

    /// Counts first: a caller that has its answer finds it in the metrics.
    fn answer(&mut self, now: Instant) {
        for live in self.live.extract_if(.., |live| live.finished()) {
            self.shared.metrics.finished(live.steps_used());
            live.finish(now);
        }
    }
}
