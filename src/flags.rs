//! Command-line flags that commands of both programs share.

use clap::Args;

use crate::Result;
use crate::model::{Backend, DeviceChoice, Dtype, DtypeChoice};

/// The device to compute on.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlag {
    /// Device to compute on: auto, cpu or cuda:0; auto is a GPU if a suitable one is found [default: auto]
    #[arg(long)]
    pub device: Option<DeviceChoice>,
}

/// The number type of a network, and the parts of its bundle that are ignored.
#[derive(Args, Clone, Debug)]
pub struct NetworkFlags {
    /// Number type: auto, q8 (8 bits, CPU), bf16 or f16 (GPU) or f32; auto is q8 on a CPU and bf16 on a GPU
    /// [default: auto]
    #[arg(long)]
    pub dtype: Option<DtypeChoice>,
    /// Ignore the bundle's shortlist and use the whole vocabulary
    #[arg(long)]
    pub no_shortlist: bool,
    /// Ignore the bundle's language model
    #[arg(long)]
    pub no_lm: bool,
}

impl NetworkFlags {
    /// The number type on a CPU, where `auto` is q8.
    pub fn dtype_on_cpu(&self) -> Dtype {
        match self.dtype.unwrap_or_default() {
            DtypeChoice::Auto => Dtype::Q8,
            DtypeChoice::Of(dtype) => dtype,
        }
    }

    /// # Errors
    /// As [`Backend::choose`].
    pub fn backend_on(&self, device: DeviceChoice) -> Result<Backend> {
        let backend = Backend::choose(device, self.dtype.unwrap_or_default())?;
        Ok(backend.with_shortlist(!self.no_shortlist).with_lm(!self.no_lm))
    }
}

/// Device and number type.
#[derive(Args, Clone, Debug)]
pub struct BackendFlags {
    #[command(flatten)]
    pub device_flag: DeviceFlag,
    #[command(flatten)]
    pub network: NetworkFlags,
}

impl BackendFlags {
    /// # Errors
    /// As [`Backend::choose`].
    pub fn backend(&self) -> Result<Backend> {
        self.network.backend_on(self.device_flag.device.unwrap_or_default())
    }
}
