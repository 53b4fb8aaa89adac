//! The tensors of a network, by name, and their seeded initial values.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Network, Shape};
use crate::{Error, Result};

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// One tensor that a network needs.
#[derive(Clone, Debug)]
pub struct Spec {
    pub shape: Vec<usize>,
    init: Init,
}

impl Spec {
    /// All tensors of a network of this shape, by name. Allocates none of them.
    pub fn of(shape: &Shape) -> Result<BTreeMap<String, Spec>> {
        shape.validate()?;
        let recorder = Recorder::default();
        let vb = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
        Network::load(shape, &vb)?;
        let specs = recorder.specs.lock().unwrap_or_else(|e| e.into_inner());
        Ok(specs.clone())
    }

    /// Initial values of the whole network, a pure function of shape and seed. Each tensor has its own random stream,
    /// so the order of drawing does not matter.
    pub fn initial(shape: &Shape, seed: u64, device: &Device) -> Result<Tensors> {
        let mut tensors = HashMap::new();
        for (stream, (name, spec)) in Self::of(shape)?.into_iter().enumerate() {
            let count = spec.shape.iter().product();
            let values: Vec<f32> = match spec.init {
                Init::Const(value) => vec![value as f32; count],
                Init::Randn { mean, stdev } => {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(stream as u64);
                    (0..count).map(|_| (mean + stdev * normal(&mut rng)) as f32).collect()
                }
                other => return Err(Error::Config(format!("tensor {name}: no seeded form of {other:?}"))),
            };
            let values = if name == "output.bias" { shape.initial_output_bias() } else { values };
            tensors.insert(name, Tensor::from_vec(values, spec.shape, device)?);
        }
        Ok(tensors)
    }

    /// Checks that `tensors` (name and shape) are exactly those of the network.
    ///
    /// # Errors
    /// The tensor and what was expected.
    pub fn check(shape: &Shape, tensors: &HashMap<String, Vec<usize>>) -> Result<(), String> {
        let specs = Self::of(shape).map_err(|e| e.to_string())?;
        for (name, spec) in &specs {
            match tensors.get(name) {
                None => return Err(format!("tensor {name:?} of shape {:?} is missing", spec.shape)),
                Some(found) if *found != spec.shape => {
                    return Err(format!("tensor {name:?} has shape {found:?}, expected {:?}", spec.shape));
                }
                Some(_) => {}
            }
        }
        let mut extra: Vec<&String> = tensors.keys().filter(|name| !specs.contains_key(*name)).collect();
        extra.sort();
        match extra.first() {
            None => Ok(()),
            Some(name) => Err(format!("tensor {name:?} is not part of this network ({} such)", extra.len())),
        }
    }
}

/// A standard normal value, by the Box–Muller transform.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Records which tensors a network requests. Returns views of a single zero, which take no memory.
#[derive(Clone, Default)]
struct Recorder {
    specs: Arc<Mutex<BTreeMap<String, Spec>>>,
}

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: candle_core::Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let spec = Spec { shape: shape.dims().to_vec(), init };
        self.specs.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_string(), spec);
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("tensor {name} was requested without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
