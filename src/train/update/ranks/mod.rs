//! Data-parallel training in one process, with a thread for each rank. Each rank computes its share of an update's
//! micro-batches on its own GPU, and all apply the sum of their gradients.
//!
//! Batches, masks and dropout depend on the number of the micro-batch. So N ranks compute what one rank computes with
//! the same `train.accumulate`, up to the order of sums. Only the first rank writes checkpoints, and they do not
//! depend on the number of ranks: a run may continue with more or fewer.
//!
//! Ranks exchange numbers through `group`, in host memory. Gradients are exchanged in the same way or, between GPUs
//! with the feature `nccl`, by NCCL. A barrier comes before each sum of NCCL, so that the other ranks stop if one fails.

mod group;

use std::sync::Arc;
use std::thread;

use candle_core::{Device, Tensor};

use crate::model::{Backend, DeviceChoice, Dtype, DtypeChoice};
use crate::{Error, Result};
use group::{Group, Message};

/// Stack size of a thread that trains: candle's backward pass recurses once for each operation on the tape.
pub const STACK_BYTES: usize = 256 << 20;

/// A rank of a run: its number, its device and its group.
pub struct RankContext {
    rank: usize,
    device: DeviceChoice,
    /// `None` for a single rank.
    group: Option<Arc<Group>>,
}

impl RankContext {
    /// A single rank.
    pub fn single(device: DeviceChoice) -> Self {
        Self { rank: 0, device, group: None }
    }

    /// Number of the rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn ranks(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.ranks())
    }

    /// Whether this is the rank that validates, writes and logs.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The device of this rank.
    pub fn device(&self) -> DeviceChoice {
        self.device
    }

    /// Whether this rank computes micro-batch `index` of an update.
    pub fn takes(&self, index: u64) -> bool {
        index % self.ranks() as u64 == self.rank as u64
    }

    /// Sums the values of all ranks, in the order of ranks, so that all get the same bits. Waits for all ranks.
    ///
    /// # Errors
    /// Another rank has failed.
    pub fn sum(&self, values: &[f64]) -> Result<Vec<f64>> {
        let Some(group) = &self.group else { return Ok(values.to_vec()) };
        let mut sums = vec![0.0; values.len()];
        for message in group.exchange(self.rank, Message::Numbers(values.to_vec()))?.iter() {
            let Message::Numbers(theirs) = message else { return Err(mismatch()) };
            if theirs.len() != sums.len() {
                return Err(mismatch());
            }
            sums.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        Ok(sums)
    }

    /// Returns the first rank's `number` on all ranks. Waits for all ranks.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn broadcast(&self, number: u32) -> Result<u32> {
        let own = if self.is_first() { f64::from(number) } else { 0.0 };
        Ok(self.sum(&[own])?[0] as u32)
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn barrier(&self) -> Result<()> {
        self.sum(&[]).map(drop)
    }

    /// The reducer for this rank's gradients, which are on the device of `backend`. Waits for all ranks.
    ///
    /// # Errors
    /// Another rank has failed, or NCCL has.
    pub fn reducer(&self, backend: &Backend) -> Result<Reducer> {
        let Some(group) = &self.group else { return Ok(Reducer(Transport::Alone)) };
        #[cfg(feature = "nccl")]
        if backend.gpu().is_some() {
            use crate::nn::device::cuda::collective::{Collective, key};
            let own = if self.is_first() { key()? } else { Default::default() };
            let keys = group.exchange(self.rank, Message::Key(own))?;
            let Some(Message::Key(key)) = keys.first() else { return Err(mismatch()) };
            let collective = Collective::join(backend.device(), self.rank, self.ranks(), key)?;
            return Ok(Reducer(Transport::Nccl { collective, rank: self.rank, group: Arc::clone(group) }));
        }
        let _ = backend;
        Ok(Reducer(Transport::Host { rank: self.rank, group: Arc::clone(group) }))
    }
}

/// Sums gradients over all ranks.
pub struct Reducer(Transport);

enum Transport {
    /// A single rank: nothing to sum.
    Alone,
    /// Through host memory.
    Host { rank: usize, group: Arc<Group> },
    #[cfg(feature = "nccl")]
    Nccl { collective: crate::nn::device::cuda::collective::Collective, rank: usize, group: Arc<Group> },
}

impl Reducer {
    /// Sums each gradient over all ranks, so that all get the same bits. Ranks pass their gradients in the same order:
    /// f32, contiguous, on their own device.
    ///
    /// # Errors
    /// Another rank has failed, or the device has.
    pub fn sum(&self, gradients: Vec<Tensor>) -> Result<Vec<Tensor>> {
        match &self.0 {
            Transport::Alone => Ok(gradients),
            Transport::Host { rank, group } => {
                let moved = |tensors: &[Tensor], device: &[&Device]| {
                    let moved = tensors.iter().zip(device).map(|(tensor, device)| tensor.to_device(device));
                    moved.collect::<candle_core::Result<Vec<_>>>()
                };
                let host = vec![&Device::Cpu; gradients.len()];
                let message = Message::Gradients(moved(&gradients, &host)?);
                let mut sums: Option<Vec<Tensor>> = None;
                for message in group.exchange(*rank, message)?.iter() {
                    let Message::Gradients(theirs) = message else { return Err(mismatch()) };
                    if theirs.len() != gradients.len() {
                        return Err(mismatch());
                    }
                    sums = Some(match sums {
                        None => theirs.clone(),
                        Some(sums) => {
                            let both = sums.iter().zip(theirs).map(|(sum, own)| sum + own);
                            both.collect::<candle_core::Result<_>>()?
                        }
                    });
                }
                let devices: Vec<&Device> = gradients.iter().map(Tensor::device).collect();
                Ok(moved(&sums.ok_or_else(mismatch)?, &devices)?)
            }
            #[cfg(feature = "nccl")]
            Transport::Nccl { collective, rank, group } => {
                let sum = flat(&gradients)?;
                // A barrier first: NCCL cannot cancel a sum in which a rank is missing.
                group.exchange(*rank, Message::Numbers(Vec::new()))?;
                collective.sum_in_place(&sum)?;
                split_like(&sum, &gradients)
            }
        }
    }
}

/// Concatenates tensors in new memory.
#[cfg(feature = "nccl")]
fn flat(tensors: &[Tensor]) -> Result<Tensor> {
    let parts = tensors.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
    // `cat` returns a single tensor without a copy.
    Ok(if let [one] = parts.as_slice() { one.copy()? } else { Tensor::cat(&parts, 0)? })
}

/// Splits the result of [`flat`] into tensors with the shapes of `like`.
#[cfg(feature = "nccl")]
fn split_like(flat: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut at = 0;
    let part = |tensor: &Tensor| {
        let count = tensor.elem_count();
        at += count;
        Ok(flat.narrow(0, at - count, count)?.reshape(tensor.shape())?)
    };
    like.iter().map(part).collect()
}

/// The devices of `ranks` ranks: `first` and the GPUs after it, or the CPU for all.
///
/// # Errors
/// A GPU is missing or not suitable.
pub fn devices(first: DeviceChoice, ranks: usize) -> Result<Vec<DeviceChoice>> {
    let checked = |device| Backend::choose(device, DtypeChoice::Of(Dtype::F32));
    let from = match first {
        DeviceChoice::Cuda(number) => Some(number),
        DeviceChoice::Auto if ranks > 1 => checked(first)?.gpu(),
        DeviceChoice::Auto | DeviceChoice::Cpu => None,
    };
    (0..ranks)
        .map(|rank| {
            let device = from.map_or(first, |number| DeviceChoice::Cuda(number + rank));
            checked(device).map(|_| device)
        })
        .collect()
}

/// Runs `work` once for each device: the first rank on the calling thread, each other rank on its own thread. Returns
/// the result of the first rank.
///
/// # Errors
/// The error of the rank that failed first. The others end at their next exchange.
pub fn run_ranks<T: Send>(
    devices: &[DeviceChoice],
    work: impl Fn(RankContext) -> Result<T> + Sync,
) -> Result<T> {
    let (first, others) = match devices {
        [] => return Err(Error::Config("train.ranks is 0; it must be at least 1".into())),
        [only] => return work(RankContext::single(*only)),
        [first, others @ ..] => (*first, others),
    };
    let group = Arc::new(Group::new(devices.len()));
    // A pool for each rank: in a shared one, a rank would wait for the work of others.
    let threads = (rayon::current_num_threads() / devices.len()).max(1);
    let run_rank = |rank: usize, device: DeviceChoice| {
        let membership = group.join(rank);
        let context = RankContext { rank, device, group: Some(Arc::clone(&group)) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES).build();
        let result = match pool {
            Ok(pool) => pool.install(|| work(context)),
            Err(error) => {
                Err(Error::Config(format!("cannot start {threads} threads for rank {rank}: {error}")))
            }
        };
        if result.is_ok() {
            membership.leave();
        }
        result
    };
    thread::scope(|scope| {
        let run_rank = &run_rank;
        let start = |(index, &device): (usize, &DeviceChoice)| {
            let thread = thread::Builder::new().name(format!("rank {}", index + 1)).stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, move || run_rank(index + 1, device))
        };
        let threads: std::io::Result<Vec<_>> = others.iter().enumerate().map(start).collect();
        let threads = match threads {
            Ok(threads) => threads,
            Err(error) => {
                // The ranks that have started must not wait for the rest.
                drop(group.join(0));
                let count = devices.len();
                return Err(Error::Config(format!(
                    "cannot start a thread for each of {count} ranks: {error}"
                )));
            }
        };
        let mut results = vec![run_rank(0, first)];
        results.extend(threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Error::Config("a rank panicked; see its message above".into())))
        }));
        if let Some(failed) = group.failed()
            && let Err(error) = results.swap_remove(failed)
        {
            return Err(error);
        }
        results.swap_remove(0)
    })
}

/// The error for ranks that exchange different kinds of values. All ranks run the same code, so it is not expected.
fn mismatch() -> Error {
    Error::Config("the ranks of the run exchanged different kinds of values; this is a bug".into())
}

#[cfg(test)]
mod tests;
