//! The trainable weights of a run: variables by name, the network over them, their moving average.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;
use rayon::prelude::*;

use super::checkpoint::Tensors;
use crate::model::{Backend, Network, Shape, Spec};
use crate::nn::ops;
use crate::{Error, Result};

/// Variables and the network that computes with them: an update of the one moves the other.
pub struct Weights {
    pub vars: BTreeMap<String, Var>,
    pub network: Network,
}

impl Weights {
    /// Seeded initial values.
    pub fn initial(shape: &Shape, seed: u64, backend: &Backend) -> Result<Self> {
        let vars = Spec::initial(shape, seed, backend.device())?
            .into_iter()
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let network = Network::load(shape, &VarBuilder::from_tensors(tensors, DType::F32, backend.device()))?;
        Ok(Self { vars, network })
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// A copy of the values, off the tape.
    pub fn snapshot(&self) -> Result<Tensors> {
        self.vars.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().detach().copy()?))).collect()
    }
}

/// A network over given tensors that no gradient reaches.
pub fn frozen(shape: &Shape, tensors: &Tensors, backend: &Backend) -> Result<Network> {
    let tensors = tensors.iter().map(|(name, t)| (name.clone(), t.detach())).collect();
    Ok(Network::load(shape, &VarBuilder::from_tensors(tensors, DType::F32, backend.device()))?)
}

/// Exponential moving average of the weights, in f32 on the host.
///
/// The decay of update t is `min(decay, (1 + t) / (10 + t))`, so that the first updates do not weigh
/// the initial values in.
pub struct Ema {
    decay: f64,
    shadow: BTreeMap<String, (Vec<f32>, Vec<usize>)>,
}

impl Ema {
    pub fn new(weights: &Weights, decay: f64) -> Result<Self> {
        Self::restore(&weights.snapshot()?, decay)
    }

    /// Goes on from [`tensors`](Self::tensors), exactly.
    pub fn restore(tensors: &Tensors, decay: f64) -> Result<Self> {
        let shadow = tensors
            .iter()
            .map(|(name, t)| Ok((name.clone(), (t.flatten_all()?.to_vec1()?, t.dims().to_vec()))))
            .collect::<Result<_>>()?;
        Ok(Self { decay, shadow })
    }

    /// Moves towards the weights after update `update` (from 1).
    pub fn update(&mut self, weights: &Weights, update: u64) -> Result<()> {
        let decay = self.decay.min((1.0 + update as f64) / (10.0 + update as f64)) as f32;
        self.shadow.par_iter_mut().try_for_each(|(name, (shadow, _))| {
            let var = weights
                .vars
                .get(name)
                .ok_or_else(|| Error::Config(format!("the moving average has an unknown tensor {name:?}")))?;
            ops::with_values(var.as_tensor(), |values| {
                for (s, &v) in shadow.iter_mut().zip(values) {
                    *s += (1.0 - decay) * (v - *s);
                }
            })?;
            Ok(())
        })
    }

    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        self.shadow
            .iter()
            .map(|(name, (values, shape))| {
                let tensor =
                    Tensor::from_slice(values, shape.as_slice(), &candle_core::Device::Cpu)?;
                Ok((name.clone(), tensor))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Weights {
        let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=32,positions=16".parse().expect("shape");
        Weights::initial(&shape, 3, &Backend::cpu()).expect("weights")
    }

    #[test]
    fn the_average_follows_its_closed_form() {
        let weights = tiny();
        let var = &weights.vars["output.bias"];
        let mut ema = Ema::new(&weights, 0.5).expect("ema");
        let mut want = 0f64;
        for t in 1..=20u64 {
            var.set(&Tensor::full(t as f32, 32, &candle_core::Device::Cpu).expect("full")).expect("set");
            ema.update(&weights, t).expect("update");
            let decay = 0.5f64.min((1.0 + t as f64) / (10.0 + t as f64));
            want = decay * want + (1.0 - decay) * t as f64;
        }
        let got: Vec<f32> = ema.tensors().expect("tensors")["output.bias"].to_vec1().expect("vec");
        assert!(got.iter().all(|&g| (f64::from(g) - want).abs() < 1e-4), "{got:?} is not {want}");
    }

    #[test]
    fn a_seed_gives_the_same_weights() {
        let (a, b) = (tiny().snapshot().expect("a"), tiny().snapshot().expect("b"));
        for (name, tensor) in a {
            let (x, y): (Vec<f32>, Vec<f32>) =
                (tensor.flatten_all().unwrap().to_vec1().unwrap(), b[&name].flatten_all().unwrap().to_vec1().unwrap());
            assert_eq!(x, y, "{name}");
        }
    }
}
