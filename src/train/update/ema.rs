//! The moving average of the weights: s ← d·s + (1−d)·w after every update.
//!
//! The average is often better than the last weights, and it is the teacher of DiMS. It consists of f32 variables
//! with the names of the weights, so that a second network can be built on them.

use std::collections::BTreeMap;

use candle_core::Var;
use rayon::prelude::*;

use crate::Result;
use crate::model::Tensors;
use crate::nn::ops::{KernelPath, select_path};
use crate::train::update::memory;

const CHUNK: usize = 1 << 14;

pub struct Ema {
    decay: f64,
    weights: BTreeMap<String, AveragedWeight>,
}

struct AveragedWeight {
    weight: Var,
    average: Var,
}

impl Ema {
    /// Starts with a copy of `weights`, which are f32. `decay` is in [0, 1).
    pub fn new(weights: impl IntoIterator<Item = (String, Var)>, decay: f64) -> Result<Self> {
        let averaged = |(name, weight): (String, Var)| {
            let average = Var::from_tensor(&weight.as_detached_tensor().copy()?)?;
            Ok((name, AveragedWeight { weight, average }))
        };
        Ok(Self { decay, weights: weights.into_iter().map(averaged).collect::<Result<_>>()? })
    }

    /// Adds the current weights to the average. Call it once after each update.
    pub fn update(&mut self) -> Result<()> {
        let (decay, fresh) = (self.decay as f32, (1.0 - self.decay) as f32);
        for AveragedWeight { weight, average } in self.weights.values() {
            #[cfg(feature = "cuda")]
            if weight.device().is_cuda() {
                use crate::nn::device::{Argument, Grid, Training, cuda::tensors::launch_in_place};
                let count = weight.elem_count();
                let rest = [Argument::U32(count as u32), decay.into(), fresh.into()];
                let tensors = [average.as_tensor(), weight.as_tensor()];
                launch_in_place(Training::Ema.into(), Grid::values(count), &tensors, &rest)?;
                continue;
            }
            if select_path(weight) != KernelPath::Cpu {
                let kept = average.as_detached_tensor().affine(self.decay, 0.0)?;
                let new = weight.as_detached_tensor().affine(1.0 - self.decay, 0.0)?;
                average.set(&(kept + new)?)?;
                continue;
            }
            memory::read(weight, |weights| {
                memory::write(average, |averages| {
                    let chunks = averages.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK));
                    chunks.for_each(|(averages, weights)| {
                        for (s, w) in averages.iter_mut().zip(weights) {
                            *s = decay * *s + fresh * w;
                        }
                    });
                })
            })??;
        }
        Ok(())
    }

    /// The averages by name; restore a checkpoint into these with
    /// [`restore`](crate::train::update::checkpoint::restore).
    pub fn vars(&self) -> BTreeMap<String, Var> {
        self.weights.iter().map(|(name, averaged)| (name.clone(), averaged.average.clone())).collect()
    }

    /// The averages as tensors on the same memory, for a checkpoint or for a network without gradients.
    pub fn tensors(&self) -> Tensors {
        let tensor = |averaged: &AveragedWeight| averaged.average.as_detached_tensor();
        self.weights.iter().map(|(name, averaged)| (name.clone(), tensor(averaged))).collect()
    }
}

#[cfg(test)]
mod tests;
