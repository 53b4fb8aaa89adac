//! The moving average of the weights: s ← d·s + (1−d)·w after every update.
//!
//! The average is often a better model than the last weights, and it is the teacher of DiMS. It is a set
//! of f32 variables of its own, under the names of the weights, so a second network can be built on them.

use std::collections::BTreeMap;

use candle_core::Var;
use rayon::prelude::*;

use super::checkpoint::Tensors;
use super::memory;
use crate::Result;
use crate::nn::ops::{Way, way};

const CHUNK: usize = 1 << 14;

pub struct Ema {
    decay: f64,
    pairs: BTreeMap<String, Pair>,
}

struct Pair {
    weight: Var,
    average: Var,
}

impl Ema {
    /// Starts as a copy of `weights`, which are f32; `decay` lies in [0, 1).
    pub fn new(weights: impl IntoIterator<Item = (String, Var)>, decay: f64) -> Result<Self> {
        let pair = |(name, weight): (String, Var)| {
            let average = Var::from_tensor(&weight.as_detached_tensor().copy()?)?;
            Ok((name, Pair { weight, average }))
        };
        Ok(Self { decay, pairs: weights.into_iter().map(pair).collect::<Result<_>>()? })
    }

    /// Takes the present weights into the average; call it once after each optimiser update.
    pub fn update(&mut self) -> Result<()> {
        let (decay, fresh) = (self.decay as f32, (1.0 - self.decay) as f32);
        for Pair { weight, average } in self.pairs.values() {
            #[cfg(feature = "cuda")]
            if weight.device().is_cuda() {
                use crate::nn::device::{Argument, Grid, Training, cuda::tensors::launch_in_place};
                let count = weight.elem_count();
                let rest = [Argument::U32(count as u32), decay.into(), fresh.into()];
                let tensors = [average.as_tensor(), weight.as_tensor()];
                launch_in_place(Training::Ema.into(), Grid::values(count), &tensors, &rest)?;
                continue;
            }
            if way(weight) != Way::Cpu {
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
    /// [`restore`](super::checkpoint::restore).
    pub fn vars(&self) -> BTreeMap<String, Var> {
        self.pairs.iter().map(|(name, pair)| (name.clone(), pair.average.clone())).collect()
    }

    /// For a checkpoint, or a network that must not train: tensors on the averages' own memory.
    pub fn tensors(&self) -> Tensors {
        let tensor = |pair: &Pair| pair.average.as_detached_tensor();
        self.pairs.iter().map(|(name, pair)| (name.clone(), tensor(pair))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::train::checkpoint::restore;

    fn weights(values: &[f32]) -> (Var, [(String, Var); 1]) {
        let var = Var::from_slice(values, values.len(), &Device::Cpu).unwrap();
        (var.clone(), [("w".to_owned(), var)])
    }

    fn average(ema: &Ema) -> Vec<f32> {
        ema.tensors()["w"].to_vec1().unwrap()
    }

    #[test]
    fn the_average_follows_the_weights_by_its_decay() {
        let (var, named) = weights(&[1.0, 8.0]);
        let mut ema = Ema::new(named, 0.75).unwrap();
        var.set(&candle_core::Tensor::new(&[5f32, 0.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(average(&ema), [1.0, 8.0]);
        ema.update().unwrap();
        assert_eq!(average(&ema), [2.0, 6.0]);
        ema.update().unwrap();
        assert_eq!(average(&ema), [2.75, 4.5]);
        assert_eq!(var.to_vec1::<f32>().unwrap(), [5.0, 0.0]);
    }

    #[test]
    fn every_way_averages_alike() {
        use crate::nn::device::{Argument, Grid, Training, emulated};
        use crate::nn::ops::by;
        let (start, now) = ([1f32, -8.0, 0.3], [5f32, 0.0, -0.7]);
        let moved = |way| {
            by(way, || {
                let (var, named) = weights(&start);
                let mut ema = Ema::new(named, 0.9).unwrap();
                var.set(&candle_core::Tensor::new(&now, &Device::Cpu).unwrap()).unwrap();
                ema.update().unwrap();
                average(&ema)
            })
        };
        let expected = moved(Way::Cpu);
        let mut averages = start;
        let at = |values: *const f32| Argument::Address(values as u64);
        let arguments = [
            at(averages.as_mut_ptr()),
            at(now.as_ptr()),
            Argument::U32(3),
            0.9f32.into(),
            (0.1f64 as f32).into(),
        ];
        emulated::run(Training::Ema.into(), Grid::values(3), &arguments, false).unwrap();
        for found in [moved(Way::Stock), averages.to_vec()] {
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6),
                "{found:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn a_restored_average_goes_on_as_if_it_had_not_stopped() {
        let (_, named) = weights(&[1.0, 2.0]);
        let mut resumed = Ema::new(named, 0.9).unwrap();
        let (_, other) = weights(&[3.0, 7.0]);
        let saved = Ema::new(other, 0.9).unwrap().tensors();
        restore(&resumed.vars(), &saved, Path::new("ema.safetensors")).unwrap();
        assert_eq!(average(&resumed), [3.0, 7.0]);
        resumed.update().unwrap();
        assert_eq!(average(&resumed), [0.9f32 * 3.0 + 0.1f64 as f32, 0.9f32 * 7.0 + 0.1f64 as f32 * 2.0]);
    }
}
