//! The trainable weights of a run: named variables, and the network that uses them.

use std::collections::BTreeMap;

use candle_core::{DType, Var};
use candle_nn::VarBuilder;

use crate::Result;
use crate::model::Tensors;
use crate::model::{Backend, Network, Shape, Spec};

/// Variables, and a network on the same memory: an update of the variables changes the network.
pub struct Weights {
    pub vars: BTreeMap<String, Var>,
    pub network: Network,
}

impl Weights {
    /// Seeded initial values.
    pub fn initial(shape: &Shape, seed: u64, backend: &Backend) -> Result<Self> {
        Self::of(shape, &Spec::initial(shape, seed, backend.device())?, backend)
    }

    /// Starts with a copy of the given values.
    pub fn of(shape: &Shape, values: &Tensors, backend: &Backend) -> Result<Self> {
        let vars = values
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), Var::from_tensor(&tensor.to_device(backend.device())?)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let network = Network::load(shape, &VarBuilder::from_tensors(tensors, DType::F32, backend.device()))?;
        Ok(Self { vars, network })
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// The values as tensors without gradient, on the same memory, so they follow every update.
    pub fn tensors(&self) -> Tensors {
        self.vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }
}

/// A network over given tensors, without gradients. It uses their memory, so if they belong to variables it follows
/// every update.
pub fn frozen(shape: &Shape, tensors: &Tensors, backend: &Backend) -> Result<Network> {
    let tensors = tensors.iter().map(|(name, t)| (name.clone(), t.detach())).collect();
    Ok(Network::load(shape, &VarBuilder::from_tensors(tensors, DType::F32, backend.device()))?)
}

#[cfg(test)]
mod tests;
