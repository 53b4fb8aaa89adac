//! Command-line flags that several commands and both programs have, so that they read and mean the same everywhere.

use clap::Args;

use crate::Result;
use crate::model::{Backend, DeviceChoice, Dtype, DtypeChoice};

/// Where a network computes.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlag {
    /// auto, cpu or cuda:0; auto is a GPU if a suitable one is found [default: auto]
    #[arg(long)]
    pub device: Option<DeviceChoice>,
}

/// What a network computes in, and what of its bundle is left out.
#[derive(Args, Clone, Debug)]
pub struct NetworkFlags {
    /// auto, q8 (eight bits, CPU), bf16, f16 (GPU) or f32; auto is q8 or bf16 [default: auto]
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
    /// What `auto` is on a CPU is q8.
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

/// Both.
#[derive(Args, Clone, Debug)]
pub struct BackendFlags {
    #[command(flatten)]
    pub place: DeviceFlag,
    #[command(flatten)]
    pub network: NetworkFlags,
}

impl BackendFlags {
    /// # Errors
    /// As [`Backend::choose`].
    pub fn backend(&self) -> Result<Backend> {
        self.network.backend_on(self.place.device.unwrap_or_default())
    }
}
