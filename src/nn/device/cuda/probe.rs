//! Asks the driver which GPUs there are.

use candle_core::cuda_backend::cudarc;
use cudarc::driver::{CudaContext, result, sys};

use crate::nn::device::found::{Built, Found, Gpu};

/// The CUDA version and compute capability of the build, from the build script.
fn built() -> Built {
    let number = |text: &str| text.parse::<i32>().unwrap_or(0);
    let capability = number(env!("TUTTI_CUDA_CAPABILITY"));
    Built { cuda: number(env!("TUTTI_CUDA_VERSION")), capability: (capability / 10, capability % 10) }
}

/// Returns GPU `number` if it is suitable. The error gives what was found and what to do.
pub(super) fn gpu(number: usize) -> Result<Gpu, String> {
    let mut driver = 0;
    // SAFETY: writes one number, and may be called before initialization.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(|error| {
        format!(
            "the NVIDIA driver does not respond ({error}); is it installed, and does this machine have a GPU?"
        )
    })?;
    // An old driver fails in many ways, so check its version first.
    Found { driver, gpus: vec![Gpu { name: String::new(), capability: (i32::MAX, 0) }] }.gpu(0, built())?;
    let count = CudaContext::device_count().map_err(|error| {
        format!("the driver finds no GPU ({error}); does nvidia-smi show one, and is it passed into the container?")
    })?;
    let gpus = (0..count).map(one).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Found { driver, gpus }.gpu(number, built()).cloned()
}

fn one(number: i32) -> Result<Gpu, result::DriverError> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(number)?;
    // SAFETY: the driver has just returned this device.
    let capability = unsafe {
        (result::device::get_attribute(device, MAJOR)?, result::device::get_attribute(device, MINOR)?)
    };
    Ok(Gpu { name: result::device::get_name(device)?, capability })
}
