//! The choice of device and number type.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Number type of the operands of matrix products in inference. Weights in training are always f32;
/// [`crate::nn::Mode`] holds the precision of its products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F32,
    /// 8 bits of exponent, as f32; 8 bits of precision. GPU only.
    Bf16,
    /// 11 bits of precision; largest value 65,504. GPU only.
    F16,
    /// 8-bit weights with one scale for each output, 8-bit activations with one for each row. Several times faster
    /// than f32; CPU only.
    #[default]
    Q8,
}

impl Dtype {
    const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::Q8];

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| Error::Config(format!("dtype {text:?} is unknown; expected f32, bf16, f16 or q8")))
    }
}

/// A number type, or the best one for the device: q8 on a CPU, bf16 on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtypeChoice {
    #[default]
    Auto,
    Of(Dtype),
}

impl DtypeChoice {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Of(dtype) => dtype.name(),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Of) }
    }
}

/// The device to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU if it is suitable, otherwise the CPU.
    #[default]
    Auto,
    Cpu,
    /// The GPU with this number.
    Cuda(usize),
}

/// `auto`, `cpu`, `cuda` (the first one) or `cuda:1`.
impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => number(other).map(Self::Cuda).ok_or_else(|| {
                Error::Config(format!(
                    "device {other:?} is unknown; expected auto, cpu or cuda:0 (cuda:1, …)"
                ))
            }),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        match choice {
            DeviceChoice::Auto => "auto".into(),
            DeviceChoice::Cpu => "cpu".into(),
            DeviceChoice::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// A device and a number type that go together.
#[derive(Clone, Debug)]
pub struct Backend {
    gpu: Option<usize>,
    dtype: Dtype,
    shortlist: bool,
    lm: bool,
    instead: Option<String>,
    tensors: Device,
}

impl Backend {
    /// f32 on the CPU.
    pub fn cpu() -> Self {
        let (dtype, instead, tensors) = (Dtype::F32, None, Device::Cpu);
        Self { gpu: None, dtype, shortlist: true, lm: true, instead, tensors }
    }

    /// Chooses a backend. Asks the driver if `device` allows a GPU.
    ///
    /// # Errors
    /// [`Error::Config`] if device and number type do not go together; [`Error::Device`] if the requested GPU is not
    /// suitable, with the reason and what to do.
    pub fn choose(device: DeviceChoice, dtype: DtypeChoice) -> Result<Self> {
        decide(device, dtype, available)
    }

    /// Chooses a backend for training and for networks with gradients: tensors live on the GPU itself, in f32.
    ///
    /// # Errors
    /// As [`Self::choose`], and the errors of opening the GPU.
    pub fn of_tensors(device: DeviceChoice) -> Result<Self> {
        let decided = Self::choose(device, DtypeChoice::Of(Dtype::F32))?;
        match decided.gpu {
            Some(number) => Ok(Self { tensors: tensors_on(number)?, ..decided }),
            None => Ok(decided),
        }
    }

    pub fn with_dtype(self, dtype: Dtype) -> Self {
        Self { dtype, ..self }
    }

    /// Sets whether a bundle's shortlist is used (the default). Only q8 on the CPU uses one.
    pub fn with_shortlist(self, shortlist: bool) -> Self {
        Self { shortlist, ..self }
    }

    /// Sets whether a bundle's language model is used (the default).
    pub fn with_lm(self, lm: bool) -> Self {
        Self { lm, ..self }
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shortlist(&self) -> bool {
        self.shortlist
    }

    pub fn lm(&self) -> bool {
        self.lm
    }

    /// The number of the GPU, or `None` for the CPU.
    pub fn gpu(&self) -> Option<usize> {
        self.gpu
    }

    /// The device of candle's tensors. Networks of `model::device` hold their own memory instead.
    pub fn device(&self) -> &Device {
        &self.tensors
    }

    /// The name that [`DeviceChoice`] parses.
    pub fn device_name(&self) -> String {
        self.gpu.map_or_else(|| "cpu".into(), |number| format!("cuda:{number}"))
    }

    /// Why the CPU computes although a GPU was preferred.
    pub fn cpu_fallback_reason(&self) -> Option<&str> {
        self.instead.as_deref()
    }
}

#[cfg(feature = "cuda")]
fn available(number: usize) -> Result<(), String> {
    crate::nn::device::cuda::available(number)
}

#[cfg(not(feature = "cuda"))]
fn available(_: usize) -> Result<(), String> {
    Err("this tutti was built without CUDA (cargo build --features cuda)".into())
}

#[cfg(feature = "cuda")]
fn tensors_on(number: usize) -> Result<Device> {
    crate::nn::device::cuda::tensors::open(number)
}

#[cfg(not(feature = "cuda"))]
fn tensors_on(number: usize) -> Result<Device> {
    available(number).map_err(Error::Device).map(|()| Device::Cpu)
}

fn decide(
    device: DeviceChoice,
    dtype: DtypeChoice,
    available: impl Fn(usize) -> Result<(), String>,
) -> Result<Backend> {
    use Dtype::{Bf16, F16, F32, Q8};
    use DtypeChoice::{Auto, Of};
    let on_cpu = |instead: Option<String>| match dtype {
        Auto | Of(Q8) => Ok(Backend { dtype: Q8, instead, ..Backend::cpu() }),
        Of(F32) => Ok(Backend { dtype: F32, instead, ..Backend::cpu() }),
        Of(Bf16 | F16) => Err(instead),
    };
    let on_gpu = |number| match dtype {
        Of(Q8) => None,
        Of(dtype) => Some(Backend { gpu: Some(number), dtype, ..Backend::cpu() }),
        Auto => Some(Backend { gpu: Some(number), dtype: Bf16, ..Backend::cpu() }),
    };
    match device {
        DeviceChoice::Cpu => on_cpu(None).map_err(|_| {
            Error::Config(format!("dtype {} needs a GPU; a CPU computes in q8 or f32", dtype.name()))
        }),
        DeviceChoice::Cuda(number) => {
            let Some(backend) = on_gpu(number) else {
                return Err(Error::Config("dtype q8 is for CPUs; a GPU computes in bf16, f16 or f32".into()));
            };
            match available(number) {
                Ok(()) => Ok(backend),
                Err(reason) => Err(Error::Device(format!(
                    "{reason}. To compute on the CPU, use --device cpu (in a run's file: train.device = \"cpu\")"
                ))),
            }
        }
        DeviceChoice::Auto => {
            let Some(backend) = on_gpu(0) else {
                return on_cpu(None).map_err(|_| Error::Config("no device computes in q8".into()));
            };
            match available(0) {
                Ok(()) => Ok(backend),
                Err(reason) => on_cpu(Some(reason)).map_err(|reason| {
                    let reason = reason.unwrap_or_default();
                    Error::Device(format!("dtype {} needs a GPU: {reason}", dtype.name()))
                }),
            }
        }
    }
}

impl fmt::Display for Backend {
    /// `bf16 on cuda:0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.dtype.name(), self.device_name())
    }
}

#[cfg(test)]
mod tests;
