//! The network of an opened model. Its type depends on device and number type, and is chosen once, when the model is
//! opened. Callers see one type.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use super::{Encoded, Limits, Prediction, Row, Translator};
#[cfg(feature = "cuda")]
use crate::model::device::DeviceNetwork;
use crate::model::{
    Architecture, Backend, Bundle, Dtype, LanguageModel, Network, QuantizedNetwork, Refresh, Shape, Spec,
};
#[cfg(feature = "cuda")]
use crate::nn::device::{Element, cuda::Cuda};
use crate::text::Specials;
use crate::{Error, Result};

/// A network ready for `serve`, `translate`, `bench` and `evaluate`, with its language model.
pub struct InferenceModel {
    network: Box<dyn Translator<Memory = InferenceMemory>>,
    lm: Option<Arc<LanguageModel>>,
    shortlist: bool,
    gpu: Option<Gpu>,
}

/// A sentence encoded by the network of an [`InferenceModel`].
#[derive(Debug)]
pub struct InferenceMemory(Box<dyn Any + Send>);

/// What a GPU reports after the warm-up.
#[derive(Debug)]
struct Gpu {
    report: String,
    halvings: usize,
    pass_rows: usize,
}

impl InferenceModel {
    /// # Errors
    /// [`Error::Bundle`] for a model that does not decode in parallel, [`Error::Config`] for a backend that this
    /// program was built without.
    pub fn open(bundle: &Bundle, backend: &Backend) -> Result<Self> {
        if bundle.config.architecture == Architecture::Ar {
            let kind = bundle.config.architecture.name();
            let reason = format!(
                "is of architecture {kind}, a teacher for `train`; tutti runs cmlm and imputer models"
            );
            return Err(Error::bundle(&bundle.dir, reason));
        }
        let model = match (backend.gpu(), backend.dtype()) {
            (None, Dtype::F32) => Self::of(bundle.network(backend)?),
            (None, Dtype::Q8) => {
                let network = bundle.quantized(backend.shortlist())?;
                let shortlist = network.has_shortlist();
                Self { shortlist, ..Self::of(network) }
            }
            _ => Self::on_gpu(&bundle.config.shape, bundle.tensors(), backend)?,
        };
        let lm = bundle.lm.clone().filter(|_| backend.lm() && bundle.config.shape.has_blanks());
        Ok(Self { lm, ..model })
    }

    /// A network with seeded random weights, for benchmarks.
    ///
    /// # Errors
    /// [`Error::Config`] for a backend that this program was built without.
    pub fn random(shape: &Shape, seed: u64, backend: &Backend) -> Result<Self> {
        let tensors = || Spec::initial(shape, seed, backend.device());
        match (backend.gpu(), backend.dtype()) {
            (None, Dtype::F32) => Ok(Self::of(Network::random(shape, seed, backend)?)),
            (None, Dtype::Q8) => Ok(Self::of(QuantizedNetwork::new(shape, &tensors()?)?)),
            _ => Self::on_gpu(shape, &tensors()?, backend),
        }
    }

    fn of(network: impl Translator) -> Self {
        Self { network: Box::new(AnyMemory(network)), lm: None, shortlist: false, gpu: None }
    }

    /// Opens the network on a GPU and warms it up, so that no request waits for what is set up lazily.
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
        let (name, pass_rows) = (network.device().name(), network.pass_rows());
        let (megabytes, graphs) = (network.weight_bytes() >> 20, network.counts().recordings);
        let report = format!(
            "{name}, weights of {megabytes} MiB, passes of at most {pass_rows} rows, {graphs} graphs"
        );
        let gpu = Gpu { report, halvings: network.halvings(), pass_rows };
        Ok(Self { gpu: Some(gpu), ..Self::of(network) })
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpu(_: &Shape, _: &HashMap<String, Tensor>, backend: &Backend) -> Result<Self> {
        Err(unsupported(backend))
    }

    /// Whether a shortlist restricts the vocabulary of each sentence.
    pub fn has_shortlist(&self) -> bool {
        self.shortlist
    }

    /// Whether a language model takes part in decoding.
    pub fn has_lm(&self) -> bool {
        self.lm.is_some()
    }

    /// Description of the GPU for the log; `None` on a CPU.
    pub fn gpu_report(&self) -> Option<&str> {
        self.gpu.as_ref().map(|gpu| gpu.report.as_str())
    }

    /// How often the warm-up halved the largest pass until it fitted the memory of the GPU.
    pub fn halvings(&self) -> usize {
        self.gpu.as_ref().map_or(0, |gpu| gpu.halvings)
    }

    /// Number of tokens, over all sentences, that fit one pass on the GPU; `None` on a CPU.
    pub fn device_rows(&self) -> Option<usize> {
        self.gpu.as_ref().map(|gpu| gpu.pass_rows)
    }
}

impl fmt::Debug for InferenceModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network: _, lm, shortlist, gpu } = self;
        let mut out = f.debug_struct("InferenceModel");
        out.field("lm", &lm.is_some()).field("shortlist", shortlist).field("gpu", gpu).finish_non_exhaustive()
    }
}

fn unsupported(backend: &Backend) -> Error {
    Error::Config(format!("this program cannot compute {backend}; see `--device` and `--dtype`"))
}

impl Translator for InferenceModel {
    type Memory = InferenceMemory;

    fn limits(&self) -> Limits {
        self.network.limits()
    }

    fn specials(&self) -> Specials {
        self.network.specials()
    }

    fn refresh(&self) -> Refresh {
        self.network.refresh()
    }

    fn lm(&self) -> Option<&Arc<LanguageModel>> {
        self.lm.as_ref()
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<InferenceMemory>>> {
        self.network.encode(sources)
    }

    fn decode(&self, rows: &[Row<'_, InferenceMemory>]) -> Result<Vec<Vec<Prediction>>> {
        self.network.decode(rows)
    }
}

/// A network whose memory type is hidden, so that networks of all types fit [`InferenceModel`].
struct AnyMemory<T>(T);

impl<T: Translator> Translator for AnyMemory<T> {
    type Memory = InferenceMemory;

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn specials(&self) -> Specials {
        self.0.specials()
    }

    fn refresh(&self) -> Refresh {
        self.0.refresh()
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<InferenceMemory>>> {
        let hide = |e: Encoded<T::Memory>| Encoded {
            memory: InferenceMemory(Box::new(e.memory)),
            length_prediction: e.length_prediction,
        };
        Ok(self.0.encode(sources)?.into_iter().map(hide).collect())
    }

    fn decode(&self, rows: &[Row<'_, InferenceMemory>]) -> Result<Vec<Vec<Prediction>>> {
        self.0.decode(&rows.iter().map(with_own_memory).collect::<Result<Vec<_>>>()?)
    }
}

/// # Errors
/// [`Error::Model`] if another network encoded the sentence.
fn with_own_memory<'a, M: 'static>(row: &Row<'a, InferenceMemory>) -> Result<Row<'a, M>> {
    let Row { memory, canvas, wanted, top_k } = *row;
    let memory = memory
        .0
        .downcast_ref()
        .ok_or_else(|| Error::Model("a sentence was encoded by another network".into()))?;
    Ok(Row { memory, canvas, wanted, top_k })
}

#[cfg(test)]
mod tests;
