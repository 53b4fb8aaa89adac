//! A network in the number type that was asked for, so that nobody above has to branch on it.

use super::{Encoded, Limits, Prediction, Row, Translator};
use crate::model::{
    Architecture, Backend, Bundle, Dtype, Network, QuantizedNetwork, Refresh, SentenceKeys, Shape, Spec,
};
use crate::text::Specials;
use crate::{Error, Result};

use super::network::SentenceMemory;

/// What `serve`, `translate`, `bench` and `evaluate` compute with.
#[derive(Debug)]
pub enum Loaded {
    F32(Box<Network>),
    Q8(Box<QuantizedNetwork>),
}

/// A sentence as the network of its own number type encoded it.
#[derive(Debug)]
pub enum LoadedMemory {
    F32(SentenceMemory),
    Q8(SentenceKeys),
}

impl Loaded {
    /// # Errors
    /// [`Error::Bundle`] for a model that does not decode in parallel.
    pub fn open(bundle: &Bundle, backend: &Backend) -> Result<Self> {
        if bundle.config.architecture != Architecture::Cmlm {
            let kind = bundle.config.architecture.name();
            let reason = format!("is of architecture {kind}, a teacher for `train`; tutti runs cmlm models");
            return Err(Error::bundle(&bundle.dir, reason));
        }
        Ok(match backend.dtype() {
            Dtype::F32 => Self::F32(Box::new(bundle.network(backend)?)),
            Dtype::Q8 => Self::Q8(Box::new(bundle.quantized()?)),
        })
    }

    /// Seeded random weights, for benches.
    pub fn random(shape: &Shape, seed: u64, backend: &Backend) -> Result<Self> {
        Ok(match backend.dtype() {
            Dtype::F32 => Self::F32(Box::new(Network::random(shape, seed, backend)?)),
            Dtype::Q8 => {
                let tensors = Spec::initial(shape, seed, backend.device())?;
                Self::Q8(Box::new(QuantizedNetwork::new(shape, &tensors)?))
            }
        })
    }
}

impl Translator for Loaded {
    type Memory = LoadedMemory;

    fn limits(&self) -> Limits {
        match self {
            Self::F32(network) => network.limits(),
            Self::Q8(network) => network.limits(),
        }
    }

    fn specials(&self) -> Specials {
        match self {
            Self::F32(network) => network.specials(),
            Self::Q8(network) => network.specials(),
        }
    }

    fn refresh(&self) -> Refresh {
        match self {
            Self::F32(network) => network.refresh(),
            Self::Q8(network) => network.refresh(),
        }
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<LoadedMemory>>> {
        Ok(match self {
            Self::F32(network) => wrap(Translator::encode(network.as_ref(), sources)?, LoadedMemory::F32),
            Self::Q8(network) => wrap(Translator::encode(network.as_ref(), sources)?, LoadedMemory::Q8),
        })
    }

    fn decode(&self, rows: &[Row<'_, LoadedMemory>]) -> Result<Vec<Vec<Prediction>>> {
        match self {
            Self::F32(network) => Translator::decode(
                network.as_ref(),
                &unwrap(rows, |memory| match memory {
                    LoadedMemory::F32(memory) => Some(memory),
                    LoadedMemory::Q8(_) => None,
                })?,
            ),
            Self::Q8(network) => Translator::decode(
                network.as_ref(),
                &unwrap(rows, |memory| match memory {
                    LoadedMemory::Q8(memory) => Some(memory),
                    LoadedMemory::F32(_) => None,
                })?,
            ),
        }
    }
}

fn wrap<M>(encoded: Vec<Encoded<M>>, memory: impl Fn(M) -> LoadedMemory) -> Vec<Encoded<LoadedMemory>> {
    let wrap = |e: Encoded<M>| Encoded { memory: memory(e.memory), length_log_probs: e.length_log_probs };
    encoded.into_iter().map(wrap).collect()
}

fn unwrap<'a, M>(
    rows: &[Row<'a, LoadedMemory>],
    own: impl Fn(&'a LoadedMemory) -> Option<&'a M>,
) -> Result<Vec<Row<'a, M>>> {
    rows.iter()
        .map(|row| {
            let memory = own(row.memory)
                .ok_or_else(|| Error::Model("a sentence was encoded by another network".into()))?;
            Ok(Row { memory, canvas: row.canvas, wanted: row.wanted })
        })
        .collect()
}
