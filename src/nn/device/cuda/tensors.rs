//! candle's tensors on a GPU, for training: opens the device and runs kernels on tensor memory.
//!
//! Each training thread has one stream, so that all work runs in order and needs no events.

use candle_core::cuda_backend::cudarc;
use candle_core::cuda_backend::{CudaDevice, CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::{Layout, Result as Answer, Storage, Tensor, bail};
use cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};

use super::{KERNELS, driver_error, keep_memory, probe};
use crate::nn::device::{Address, Argument, Grid, Kernel};
use crate::{Error, Result};

/// Opens GPU `number` for tensors, with its own stream. f32 products use TF32 (10 bits of mantissa, accumulated in
/// f32); freed memory is cached.
///
/// # Errors
/// [`Error::Device`] with what was found and what to do.
pub fn open(number: usize) -> Result<candle_core::Device> {
    probe::gpu(number).map_err(Error::Device)?;
    let device = CudaDevice::new_with_stream(number)?;
    // SAFETY: training is one thread with one stream; there is no second one.
    unsafe { device.disable_event_tracking() };
    keep_memory(device.cuda_stream().context()).map_err(|e| driver_error("the memory pool", e))?;
    candle_core::cuda::set_gemm_reduced_precision_f32(true);
    Ok(candle_core::Device::Cuda(device))
}

/// The address of a contiguous tensor of f32 or u32.
pub fn address(storage: &CudaStorage, layout: &Layout) -> Answer<Address> {
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("a kernel needs contiguous input") };
    let stream = storage.device.cuda_stream();
    let base = match &storage.slice {
        CudaStorageSlice::F32(values) => values.device_ptr(&stream).0,
        CudaStorageSlice::U32(values) => values.device_ptr(&stream).0,
        _ => bail!("a kernel takes f32 and u32"),
    };
    Ok(base + 4 * start as u64)
}

/// Allocates uninitialized memory for `count` f32 values. Returns it with its address.
pub fn allocate(device: &CudaDevice, count: usize) -> Answer<(CudaStorage, Address)> {
    // SAFETY: the kernel that gets it writes all of it before it is read.
    let slice = unsafe { device.alloc::<f32>(count)? };
    let at = slice.device_ptr(&device.cuda_stream()).0;
    Ok((CudaStorage::wrap_cuda_slice(slice, device.clone()), at))
}

/// Queues a kernel. Nothing is checked: the arguments must match the kernel, and the memory behind addresses must
/// exist and be large enough.
pub fn launch(device: &CudaDevice, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Answer<()> {
    let function = device.get_or_load_custom_func(kernel.name(), "tutti", KERNELS)?;
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Address(value) => builder.arg(value),
            Argument::U32(value) => builder.arg(value),
            Argument::F32(value) => builder.arg(value),
        };
    }
    let grid = LaunchConfig {
        grid_dim: (grid.width, grid.height, 1),
        block_dim: (grid.threads, 1, 1),
        shared_mem_bytes: (grid.shared_floats * 4) as u32,
    };
    // SAFETY: guaranteed by the caller.
    unsafe { builder.launch(grid) }.w().map(drop)
}

/// Queues a kernel that changes some of `tensors` in place. Its arguments are the addresses of `tensors`, then
/// `rest`. All tensors must be contiguous f32 on one device. Tensors that share memory with a changed one change too.
pub fn launch_in_place(kernel: Kernel, grid: Grid, tensors: &[&Tensor], rest: &[Argument]) -> Answer<()> {
    let guards: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut arguments = Vec::with_capacity(tensors.len() + rest.len());
    let mut device = None;
    for (storage, layout) in &guards {
        let Storage::Cuda(storage) = &**storage else { bail!("{}: a tensor is not on a GPU", kernel.name()) };
        arguments.push(Argument::Address(address(storage, layout)?));
        device = Some(storage.device.clone());
    }
    let Some(device) = device else { bail!("{}: no tensor", kernel.name()) };
    arguments.extend_from_slice(rest);
    launch(&device, kernel, grid, &arguments)
}
