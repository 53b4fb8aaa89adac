//! Endless batches for the training loop, from a corpus in memory or from a mixture.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use crate::train::data::batches::{Batches, Position};
use crate::train::data::corpus::{Corpus, Pair};
use crate::train::data::mixture::{EpochPart, Mixture};
use crate::train::rng::Rng;
use crate::{Error, Result};

/// The source of batches. Both kinds use [`Position`]: for a corpus an epoch and a batch in it; for a mixture a part,
/// counted over all epochs, and a batch in it.
pub enum Feed<'a> {
    Corpus(&'a Corpus, Box<Batches>),
    Mixture(Stream),
}

impl<'a> Feed<'a> {
    /// # Errors
    /// As [`Batches::new`].
    pub fn of_corpus(corpus: &'a Corpus, batch_tokens: usize, rng: &Rng, position: Position) -> Result<Self> {
        let batches = Batches::new(corpus.lengths(), batch_tokens, rng, position)?;
        Ok(Self::Corpus(corpus, Box::new(batches)))
    }

    /// # Errors
    /// An index after the end of its part, which means that data or budget have changed; and the errors of making a
    /// part.
    pub fn of_mixture(
        mixture: Arc<Mixture>,
        batch_tokens: usize,
        rng: &Rng,
        position: Position,
    ) -> Result<Self> {
        Ok(Self::Mixture(Stream::new(mixture, batch_tokens, rng, position, threads())?))
    }

    pub fn next_batch(&mut self) -> Result<Vec<&Pair>> {
        match self {
            Self::Corpus(corpus, batches) => {
                Ok(batches.next_batch()?.iter().map(|&index| &corpus.pairs[index]).collect())
            }
            Self::Mixture(stream) => stream.next_batch(),
        }
    }

    /// The position of the next batch; stored in checkpoints.
    pub fn position(&self) -> Position {
        match self {
            Self::Corpus(_, batches) => batches.position(),
            Self::Mixture(stream) => stream.position,
        }
    }

    /// The current epoch, from 0.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Corpus(_, batches) => batches.position().epoch,
            Self::Mixture(stream) => stream.position.epoch / stream.parts,
        }
    }

    /// Share of the computed tokens that are padding, in the current epoch or part.
    pub fn padding_share(&self) -> f64 {
        match self {
            Self::Corpus(_, batches) => batches.plan().padding_share(),
            Self::Mixture(stream) => stream.part.plan.padding_share(),
        }
    }
}

/// Largest number of threads that prepare parts. A GPU learns from several times as many tokens as one thread prepares.
const MAX_THREADS: usize = 4;
/// Number of cores for each of these threads: on the few cores of a machine without a GPU there is one.
const CORES_PER_THREAD: usize = 4;

/// The parts of a mixture. Threads prepare them ahead of the updates.
pub struct Stream {
    part: EpochPart,
    position: Position,
    /// Number of parts of an epoch.
    parts: u64,
    /// One for each thread; the first one has the next part.
    ahead: Vec<Receiver<Result<EpochPart>>>,
}

impl Stream {
    /// Part n is a pure function of n, so the batches are the same for any number of threads, which must be at least 1.
    pub(super) fn new(
        mixture: Arc<Mixture>,
        batch_tokens: usize,
        rng: &Rng,
        position: Position,
        threads: usize,
    ) -> Result<Self> {
        let parts = mixture.parts();
        let prepare = |first| prepared(mixture.clone(), batch_tokens, rng.clone(), first, threads);
        let mut ahead: Vec<_> = (position.epoch..).take(threads).map(prepare).collect();
        let part = receive(&mut ahead)?;
        let batches = part.plan.batches.len();
        if position.index > batches {
            return Err(Error::Config(format!(
                "the run stopped at batch {} of a part that has {batches} batches: data, augmentation or batch_tokens have changed",
                position.index
            )));
        }
        Ok(Self { part, position, parts, ahead })
    }

    fn next_batch(&mut self) -> Result<Vec<&Pair>> {
        if self.position.index == self.part.plan.batches.len() {
            self.part = receive(&mut self.ahead)?;
            self.position = Position { epoch: self.position.epoch + 1, index: 0 };
        }
        let batch = &self.part.plan.batches[self.position.index];
        self.position.index += 1;
        Ok(batch.iter().map(|&index| &self.part.pairs[index]).collect())
    }
}

/// A thread that makes part `first` and every `step`-th one after it. It ends when the receiver is dropped.
fn prepared(
    mixture: Arc<Mixture>,
    batch_tokens: usize,
    rng: Rng,
    first: u64,
    step: usize,
) -> Receiver<Result<EpochPart>> {
    let (sender, ahead) = sync_channel(1);
    std::thread::spawn(move || {
        let parts = mixture.parts();
        let (mut epoch, mut order) = (first / parts, mixture.order(&rng, first / parts));
        for number in (first..).step_by(step) {
            if number / parts != epoch {
                epoch = number / parts;
                order = mixture.order(&rng, epoch);
            }
            let part = mixture.part(&order, number, &rng, batch_tokens);
            let failed = part.is_err();
            if sender.send(part).is_err() || failed {
                return;
            }
        }
    });
    ahead
}

fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / CORES_PER_THREAD).clamp(1, MAX_THREADS)
}

/// The next part. The threads take turns.
fn receive(ahead: &mut [Receiver<Result<EpochPart>>]) -> Result<EpochPart> {
    let gone = || Error::Config("the thread that prepares training text has stopped".into());
    let part = ahead.first().and_then(|thread| thread.recv().ok()).ok_or_else(gone)??;
    ahead.rotate_left(1);
    Ok(part)
}
