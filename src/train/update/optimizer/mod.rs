//! AdamW over named parameters (Loshchilov and Hutter, arXiv 1711.05101). Unlike candle's, it saves and loads its
//! moments, does not decay biases and norms, clips by the global norm, and drops updates whose gradient is not finite.
//!
//! On a CPU, and on a GPU with a kernel, an update is one pass in place over parameters, gradients and moments; other
//! devices compute the same equations with tensor operations. Parameters are visited in the order of their names and
//! sums have a fixed order, so an update does not depend on the number of threads.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use crate::nn::ops::{KernelPath, select_path};
use crate::train::config::Train;
use crate::{Error, Result};

mod device;
mod host;

/// The settings of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    pub eps: f64,
    /// Decoupled weight decay of parameters with two or more dimensions; biases and norms are not decayed.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Number of consecutive updates without a finite gradient that ends the run.
    pub max_skips_in_a_row: u32,
}

impl AdamW {
    /// The settings of `[train]`.
    pub fn of(train: &Train) -> Self {
        let Train { betas, eps, weight_decay, clip, max_skips_in_a_row, .. } = *train;
        Self { betas, eps, weight_decay, clip, max_skips_in_a_row }
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: (0.9, 0.98), eps: 1e-8, weight_decay: 0.01, clip: 1.0, max_skips_in_a_row: 5 }
    }
}

/// The result of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The global norm of the gradient, scaled but not yet clipped.
    pub norm: f64,
    /// False if the norm was not finite: the gradient was dropped and nothing has changed.
    pub applied: bool,
}

pub struct Optimizer {
    settings: AdamW,
    parameters: BTreeMap<String, Parameter>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    /// Number of updates applied; the t of Adam.
    applied: u64,
    skipped: u64,
    skipped_in_a_row: u32,
}

/// A parameter and its two moments.
struct Parameter {
    var: Var,
    decays: bool,
    moments: Moments,
}

enum Moments {
    Host { first: Vec<f32>, second: Vec<f32> },
    Device { first: Tensor, second: Tensor },
}

/// The values of an update that are the same for all parameters.
#[derive(Clone, Copy)]
struct Coefficients {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// Learning rate divided by the bias correction of the first moment.
    rate: f32,
    /// 1/√ of the bias correction of the second moment.
    second_scale: f32,
    /// Factor of the gradient: scale and clipping.
    gradient: f32,
    /// 1 − learning rate · decay, for the parameters that decay.
    keep: f32,
}

impl Optimizer {
    /// Creates moments for `vars`, which must be f32 and on one device.
    pub fn new(vars: impl IntoIterator<Item = (String, Var)>, settings: AdamW) -> Result<Self> {
        let parameter = |(name, var): (String, Var)| {
            if var.dtype() != DType::F32 {
                return Err(Error::Config(format!(
                    "parameter {name} is {:?}; training needs f32",
                    var.dtype()
                )));
            }
            Ok((name, Parameter { decays: var.rank() > 1, moments: Moments::zeros(&var)?, var }))
        };
        let parameters = vars.into_iter().map(parameter).collect::<Result<_>>()?;
        Ok(Self { settings, parameters, counters: Counters::default() })
    }

    /// Applies an update with `scale` · gradient. For gradients that [`GradStore::extend`] has summed over
    /// micro-batches, `scale` is 1 over the number of their tokens.
    ///
    /// # Errors
    /// A parameter without a gradient, which means that a layer cuts the backward pass; too many consecutive updates
    /// whose gradient is not finite.
    pub fn step(&mut self, gradients: &GradStore, scale: f64, learning_rate: f64) -> Result<Outcome> {
        let gradients = self.gradients(gradients)?;
        self.apply(&gradients, scale, learning_rate, &[]).map(|(outcome, _)| outcome)
    }

    /// Applies an update with gradients in the order of [`Self::gradients`]. Also returns the values of f32
    /// `scalars`, which a GPU sends together with the norm, so that the host waits once.
    ///
    /// # Errors
    /// Too many consecutive updates whose gradient is not finite.
    pub fn apply(
        &mut self,
        gradients: &[Tensor],
        scale: f64,
        learning_rate: f64,
        scalars: &[Tensor],
    ) -> Result<(Outcome, Vec<f32>)> {
        let (squares, values) = read(gradients, scalars)?;
        let norm = scale.abs() * squares.sqrt();
        if !norm.is_finite() {
            self.skip(norm)?;
            return Ok((Outcome { norm, applied: false }, values));
        }
        self.counters.applied += 1;
        self.counters.skipped_in_a_row = 0;
        let coefficients = self.coefficients(scale, norm, learning_rate);
        for (parameter, gradient) in self.parameters.values_mut().zip(gradients) {
            parameter.update(gradient, coefficients)?;
        }
        Ok((Outcome { norm, applied: true }, values))
    }

    /// Number of updates applied so far.
    pub fn applied(&self) -> u64 {
        self.counters.applied
    }

    /// Number of updates dropped so far because their gradient was not finite.
    pub fn skipped(&self) -> u64 {
        self.counters.skipped
    }

    /// Moments and counters as tensors: `first.<name>`, `second.<name>`, `counters`.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::with_capacity(2 * self.parameters.len() + 1);
        for (name, parameter) in &self.parameters {
            let (first, second) = parameter.moments.tensors(&parameter.var)?;
            tensors.insert(format!("first.{name}"), first);
            tensors.insert(format!("second.{name}"), second);
        }
        let Counters { applied, skipped, skipped_in_a_row } = self.counters;
        let counters = [applied as i64, skipped as i64, i64::from(skipped_in_a_row)];
        tensors.insert("counters".into(), Tensor::new(&counters, &Device::Cpu)?);
        Ok(tensors)
    }

    /// Restores a [`state`](Self::state) exactly.
    ///
    /// # Errors
    /// A moment that is missing, unknown, or of another shape than its parameter. Nothing has changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let (found, parameters) = (state.len(), self.parameters.len());
        let expected = 2 * parameters + 1;
        if found != expected {
            return Err(Error::Config(format!(
                "the optimizer state has {found} tensors, expected {expected} for {parameters} parameters"
            )));
        }
        let counters = find(state, "counters", &[3])?.to_vec1::<i64>()?;
        let moments = self.parameters.iter().map(|(name, parameter)| {
            let first = find(state, &format!("first.{name}"), parameter.var.dims())?;
            let second = find(state, &format!("second.{name}"), parameter.var.dims())?;
            Moments::from_tensors(first, second, parameter.var.device())
        });
        let moments = moments.collect::<Result<Vec<_>>>()?;
        for (parameter, moments) in self.parameters.values_mut().zip(moments) {
            parameter.moments = moments;
        }
        self.counters = Counters {
            applied: counters[0] as u64,
            skipped: counters[1] as u64,
            skipped_in_a_row: counters[2] as u32,
        };
        Ok(())
    }

    /// The gradient of each parameter, in the order of names: f32, contiguous.
    ///
    /// # Errors
    /// A parameter without a gradient, or with one of another shape.
    pub fn gradients(&self, gradients: &GradStore) -> Result<Vec<Tensor>> {
        let gradient = |(name, parameter): (&String, &Parameter)| {
            let var = &parameter.var;
            match gradients.get(var.as_tensor()) {
                Some(gradient) if gradient.shape() == var.shape() => {
                    Ok(gradient.to_dtype(DType::F32)?.contiguous()?)
                }
                Some(gradient) => {
                    let (found, expected) = (gradient.dims(), var.dims());
                    Err(message(format!("the gradient of {name} has shape {found:?}, expected {expected:?}")))
                }
                None => Err(message(format!("no gradient reaches {name}: a layer cuts the backward pass"))),
            }
        };
        self.parameters.iter().map(gradient).collect()
    }

    fn skip(&mut self, norm: f64) -> Result<()> {
        self.counters.skipped += 1;
        self.counters.skipped_in_a_row += 1;
        if self.counters.skipped_in_a_row < self.settings.max_skips_in_a_row {
            return Ok(());
        }
        let times = self.counters.skipped_in_a_row;
        Err(message(format!(
            "the gradient was not finite (norm {norm}) in {times} updates in a row; \
             continue from an earlier checkpoint with a lower learning rate or a longer warm-up"
        )))
    }

    fn coefficients(&self, scale: f64, norm: f64, learning_rate: f64) -> Coefficients {
        let AdamW { betas: (beta1, beta2), eps, weight_decay, clip, .. } = self.settings;
        let t = self.counters.applied as f64;
        let clipping = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        Coefficients {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            rate: (learning_rate / (1.0 - beta1.powf(t))) as f32,
            second_scale: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
            gradient: (scale * clipping) as f32,
            keep: (1.0 - learning_rate * weight_decay) as f32,
        }
    }
}

impl Parameter {
    fn update(&mut self, gradient: &Tensor, c: Coefficients) -> Result<()> {
        let c = if self.decays { c } else { Coefficients { keep: 1.0, ..c } };
        match &mut self.moments {
            Moments::Host { first, second } => host::update(&self.var, gradient, first, second, c)?,
            Moments::Device { first, second } => device::update(&self.var, gradient, first, second, c)?,
        }
        Ok(())
    }
}

impl Moments {
    fn zeros(var: &Var) -> Result<Self> {
        let zeros = || var.as_detached_tensor().zeros_like();
        Self::from_tensors(&zeros()?, &zeros()?, var.device())
    }

    fn from_tensors(first: &Tensor, second: &Tensor, device: &Device) -> Result<Self> {
        if select_path(first) == KernelPath::Cpu && device.is_cpu() {
            let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            return Ok(Self::Host { first: flat(first)?, second: flat(second)? });
        }
        // A GPU changes moments in place, so each needs its own memory.
        Ok(Self::Device {
            first: first.to_device(device)?.copy()?,
            second: second.to_device(device)?.copy()?,
        })
    }

    fn tensors(&self, var: &Var) -> Result<(Tensor, Tensor)> {
        let shaped = |values: &[f32]| Tensor::from_slice(values, var.shape(), &Device::Cpu);
        Ok(match self {
            Self::Host { first, second } => (shaped(first)?, shaped(second)?),
            Self::Device { first, second } => (first.clone(), second.clone()),
        })
    }
}

/// Σ g² over all gradients, and the values of `scalars`.
fn read(gradients: &[Tensor], scalars: &[Tensor]) -> Result<(f64, Vec<f32>)> {
    if gradients.iter().any(|gradient| select_path(gradient) != KernelPath::Cpu) {
        return device::read(gradients, scalars);
    }
    let mut squares = 0.0;
    for gradient in gradients {
        squares += host::sum_of_squares(gradient)?;
    }
    let values = scalars.iter().map(Tensor::to_scalar).collect::<candle_core::Result<_>>()?;
    Ok((squares, values))
}

fn find<'a>(state: &'a HashMap<String, Tensor>, name: &str, dims: &[usize]) -> Result<&'a Tensor> {
    let reason = match state.get(name) {
        Some(tensor) if tensor.dims() == dims => return Ok(tensor),
        Some(tensor) => format!("has shape {:?}, expected {dims:?}", tensor.dims()),
        None => "is missing".into(),
    };
    Err(Error::Config(format!("optimizer state: tensor {name} {reason}")))
}

fn message(text: String) -> Error {
    candle_core::Error::Msg(text).into()
}

#[cfg(test)]
mod tests;
