//! An opened model in the number type that was chosen, so that callers need not distinguish them.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::{Encoded, Limits, Prediction, Row, Translator};
#[cfg(feature = "cuda")]
use crate::model::device::{DeviceKeys, DeviceNetwork};
use crate::model::{
    Architecture, Backend, Bundle, Dtype, LanguageModel, Network, QuantizedNetwork, Refresh, SentenceKeys,
    Shape, Spec,
};
#[cfg(feature = "cuda")]
use crate::nn::device::{Element, cuda::Cuda};
use crate::text::Specials;
use crate::{Error, Result};

use super::network::SentenceMemory;

/// A network ready for `serve`, `translate`, `bench` and `evaluate`, with its language model.
#[derive(Debug)]
pub struct InferenceModel {
    network: NetworkKind,
    lm: Option<Arc<LanguageModel>>,
}

#[derive(Debug)]
enum NetworkKind {
    F32(Box<Network>),
    Q8(Box<QuantizedNetwork>),
    #[cfg(feature = "cuda")]
    Cuda(Box<DeviceNetwork<Cuda>>),
}

/// A sentence encoded by the network of one number type.
#[derive(Debug)]
pub enum InferenceMemory {
    F32(SentenceMemory),
    Q8(SentenceKeys),
    #[cfg(feature = "cuda")]
    Cuda(DeviceKeys<Cuda>),
}

impl InferenceModel {
    /// # Errors
    /// [`Error::Bundle`] for a model that does not decode in parallel.
    pub fn open(bundle: &Bundle, backend: &Backend) -> Result<Self> {
        if bundle.config.architecture == Architecture::Ar {
            let kind = bundle.config.architecture.name();
            let reason = format!(
                "is of architecture {kind}, a teacher for `train`; tutti runs cmlm and imputer models"
            );
            return Err(Error::bundle(&bundle.dir, reason));
        }
        let network = match (backend.gpu(), backend.dtype()) {
            (None, Dtype::F32) => NetworkKind::F32(Box::new(bundle.network(backend)?)),
            (None, Dtype::Q8) => NetworkKind::Q8(Box::new(bundle.quantized(backend.shortlist())?)),
            _ => NetworkKind::on_gpu(&bundle.config.shape, bundle.tensors(), backend)?,
        };
        let lm = bundle.lm.clone().filter(|_| backend.lm() && bundle.config.shape.has_blanks());
        Ok(Self { network, lm })
    }

    /// Seeded random weights, for benches.
    pub fn random(shape: &Shape, seed: u64, backend: &Backend) -> Result<Self> {
        let tensors = || Spec::initial(shape, seed, backend.device());
        let network = match (backend.gpu(), backend.dtype()) {
            (None, Dtype::F32) => NetworkKind::F32(Box::new(Network::random(shape, seed, backend)?)),
            (None, Dtype::Q8) => NetworkKind::Q8(Box::new(QuantizedNetwork::new(shape, &tensors()?)?)),
            _ => NetworkKind::on_gpu(shape, &tensors()?, backend)?,
        };
        Ok(Self { network, lm: None })
    }

    /// Whether a shortlist restricts the vocabulary of each sentence.
    pub fn has_shortlist(&self) -> bool {
        matches!(&self.network, NetworkKind::Q8(network) if network.has_shortlist())
    }

    /// Whether slots are read with a language model.
    pub fn has_lm(&self) -> bool {
        self.lm.is_some()
    }

    /// Description of the GPU for the log; none on a CPU.
    pub fn gpu_report(&self) -> Option<String> {
        match &self.network {
            NetworkKind::F32(_) | NetworkKind::Q8(_) => None,
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => {
                let (name, rows) = (network.device().name(), network.pass_rows());
                let (megabytes, graphs) = (network.weight_bytes() >> 20, network.counts().recordings);
                Some(format!(
                    "{name}, weights of {megabytes} MiB, passes of at most {rows} rows, {graphs} graphs"
                ))
            }
        }
    }

    /// How often the largest pass was halved until the device had room for it.
    pub fn halvings(&self) -> usize {
        match &self.network {
            NetworkKind::F32(_) | NetworkKind::Q8(_) => 0,
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => network.halvings(),
        }
    }

    /// Tokens of all its sentences that a GPU takes in one pass, as far as its memory goes; nothing on a CPU.
    pub fn device_rows(&self) -> Option<usize> {
        match &self.network {
            NetworkKind::F32(_) | NetworkKind::Q8(_) => None,
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => Some(network.pass_rows()),
        }
    }
}

impl NetworkKind {
    /// Warmed up: no request waits for what is set up lazily.
    #[cfg(feature = "cuda")]
    fn on_gpu(shape: &Shape, tensors: &HashMap<String, Tensor>, backend: &Backend) -> Result<Self> {
        let element = match backend.dtype() {
            Dtype::F32 => Element::F32,
            Dtype::Bf16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            Dtype::Q8 => return Err(unsupported(backend)),
        };
        let number = backend.gpu().ok_or_else(|| unsupported(backend))?;
        let network = DeviceNetwork::new(Cuda::open(number, element)?, shape, tensors, element)?;
        network.warm_up()?;
        Ok(Self::Cuda(Box::new(network)))
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpu(_: &Shape, _: &HashMap<String, Tensor>, backend: &Backend) -> Result<Self> {
        Err(unsupported(backend))
    }
}

fn unsupported(backend: &Backend) -> Error {
    Error::Config(format!("no network computes {backend}"))
}

impl Translator for InferenceModel {
    type Memory = InferenceMemory;

    fn limits(&self) -> Limits {
        match &self.network {
            NetworkKind::F32(network) => network.limits(),
            NetworkKind::Q8(network) => network.limits(),
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => network.limits(),
        }
    }

    fn specials(&self) -> Specials {
        match &self.network {
            NetworkKind::F32(network) => network.specials(),
            NetworkKind::Q8(network) => network.specials(),
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => Translator::specials(network.as_ref()),
        }
    }

    fn refresh(&self) -> Refresh {
        match &self.network {
            NetworkKind::F32(network) => network.refresh(),
            NetworkKind::Q8(network) => network.refresh(),
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => network.refresh(),
        }
    }

    fn lm(&self) -> Option<&Arc<LanguageModel>> {
        self.lm.as_ref()
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<InferenceMemory>>> {
        Ok(match &self.network {
            NetworkKind::F32(network) => {
                wrap(Translator::encode(network.as_ref(), sources)?, InferenceMemory::F32)
            }
            NetworkKind::Q8(network) => {
                wrap(Translator::encode(network.as_ref(), sources)?, InferenceMemory::Q8)
            }
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => wrap(network.encode(sources)?, InferenceMemory::Cuda),
        })
    }

    fn decode(&self, rows: &[Row<'_, InferenceMemory>]) -> Result<Vec<Vec<Prediction>>> {
        match &self.network {
            NetworkKind::F32(network) => Translator::decode(
                network.as_ref(),
                &unwrap(rows, |memory| match memory {
                    InferenceMemory::F32(memory) => Some(memory),
                    _ => None,
                })?,
            ),
            NetworkKind::Q8(network) => Translator::decode(
                network.as_ref(),
                &unwrap(rows, |memory| match memory {
                    InferenceMemory::Q8(memory) => Some(memory),
                    _ => None,
                })?,
            ),
            #[cfg(feature = "cuda")]
            NetworkKind::Cuda(network) => network.decode(&unwrap(rows, |memory| match memory {
                InferenceMemory::Cuda(memory) => Some(memory),
                _ => None,
            })?),
        }
    }
}

fn wrap<M>(encoded: Vec<Encoded<M>>, memory: impl Fn(M) -> InferenceMemory) -> Vec<Encoded<InferenceMemory>> {
    let wrap = |e: Encoded<M>| Encoded { memory: memory(e.memory), outline: e.outline };
    encoded.into_iter().map(wrap).collect()
}

fn unwrap<'a, M>(
    rows: &[Row<'a, InferenceMemory>],
    own: impl Fn(&'a InferenceMemory) -> Option<&'a M>,
) -> Result<Vec<Row<'a, M>>> {
    rows.iter()
        .map(|row| {
            let memory = own(row.memory)
                .ok_or_else(|| Error::Model("a sentence was encoded by another network".into()))?;
            let Row { canvas, wanted, one_step, choices, .. } = *row;
            Ok(Row { memory, canvas, wanted, one_step, choices })
        })
        .collect()
}
