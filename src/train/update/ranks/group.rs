//! Exchange of values between the ranks of a run: each rank gives a value and gets the values of all.
//!
//! It is a barrier with data. If a rank fails, all ranks that wait now or later get an error.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::{Error, Result};

/// A value that ranks exchange.
#[derive(Clone, Debug)]
pub enum Message {
    Numbers(Vec<f64>),
    /// All gradients of a rank, on the CPU.
    Gradients(Vec<Tensor>),
    /// The key with which the ranks of NCCL find each other.
    #[cfg(feature = "nccl")]
    Key(Vec<std::ffi::c_char>),
}

pub struct Group {
    round: Mutex<Round>,
    changed: Condvar,
}

struct Round {
    number: u64,
    /// The messages of this round, by rank.
    messages: Vec<Option<Message>>,
    /// The messages of the last complete round. The next round ends only after every rank has read them.
    all: Arc<Vec<Message>>,
    /// The rank that failed first.
    failed: Option<usize>,
}

/// Membership of a rank. If it is dropped without [`Membership::leave`], the rank has failed with an error or a panic.
pub struct Membership<'a> {
    group: &'a Group,
    rank: usize,
    done: bool,
}

impl Group {
    pub fn new(ranks: usize) -> Self {
        let messages = (0..ranks).map(|_| None).collect();
        let round = Round { number: 0, messages, all: Arc::default(), failed: None };
        Self { round: Mutex::new(round), changed: Condvar::new() }
    }

    pub fn ranks(&self) -> usize {
        self.lock().messages.len()
    }

    pub fn join(&self, rank: usize) -> Membership<'_> {
        Membership { group: self, rank, done: false }
    }

    /// The rank that failed first.
    pub fn failed(&self) -> Option<usize> {
        self.lock().failed
    }

    /// Waits for the messages of all ranks and returns them, by rank.
    ///
    /// # Errors
    /// A rank has failed.
    pub fn exchange(&self, rank: usize, message: Message) -> Result<Arc<Vec<Message>>> {
        let mut round = self.lock();
        let number = round.number;
        round.messages[rank] = Some(message);
        if round.messages.iter().all(Option::is_some) {
            round.all = Arc::new(round.messages.iter_mut().filter_map(Option::take).collect());
            round.number += 1;
            self.changed.notify_all();
        }
        while round.number == number {
            if let Some(failed) = round.failed {
                return Err(Error::Config(format!("rank {failed} of the run has failed")));
            }
            round = self.changed.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&round.all))
    }

    /// Ignores poisoning: no code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership<'_> {
    /// Ends the membership of a rank that has finished its work.
    pub fn leave(mut self) {
        self.done = true;
    }
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.group.lock().failed.get_or_insert(self.rank);
            self.group.changed.notify_all();
        }
    }
}
