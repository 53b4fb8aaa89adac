//! An NVIDIA GPU as a [`Device`]: one stream, on which all work runs in order; kernels from PTX that the build
//! compiled from `kernels.cu`; pinned host memory for uploads and downloads.
//!
//! `products` calls cuBLASLt, `graphs` replays recorded passes, `probe` asks the driver about GPUs. For training,
//! `tensors` runs kernels on candle's tensors and `collective` sums them over GPUs.

#[cfg(feature = "nccl")]
pub mod collective;
mod graphs;
mod probe;
mod products;
pub mod tensors;

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc;
use cudarc::driver::sys::{
    CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as RELEASE_THRESHOLD, CUresult,
};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, PinnedHostSlice, result,
};
use cudarc::nvrtc::Ptx;

use self::graphs::Graphs;
use self::products::Products;
use super::{Address, Argument, Counts, Device, Element, Grid, Kernel, Product};
use crate::{Error, Result};

const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Copies up to this size go through pinned memory.
const PINNED_BYTES: usize = 1 << 20;

/// Checks that GPU `number` is suitable. The error gives what was found and what to do.
pub fn available(number: usize) -> Result<(), String> {
    probe::gpu(number).map(drop)
}

/// One GPU and one stream of work on it.
pub struct Cuda {
    name: String,
    functions: HashMap<Kernel, CudaFunction>,
    products: Products,
    graphs: Graphs,
    pinned: Mutex<Pinned>,
    launches: AtomicU64,
    stream: Arc<CudaStream>,
}

struct Pinned {
    up: PinnedHostSlice<u8>,
    down: PinnedHostSlice<u8>,
    /// Whether a copy from `up` may still be running.
    busy: bool,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cuda {
    /// Opens GPU `number` for networks with weights of this type.
    ///
    /// # Errors
    /// [`Error::Device`] with what was found and what to do.
    pub fn open(number: usize, element: Element) -> Result<Self> {
        let gpu = probe::gpu(number).map_err(Error::Device)?;
        let context =
            CudaContext::new(number).map_err(|e| driver_error(&format!("opening cuda:{number}"), e))?;
        // All work is on one stream, so events would only cost time and prevent recording.
        // SAFETY: this memory is never used on a second stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|e| driver_error("creating a stream", e))?;
        keep_memory(&context).map_err(|e| driver_error("the memory pool", e))?;
        let module = context.load_module(Ptx::from_src(KERNELS)).map_err(|e| {
            driver_error("loading the kernels (a driver older than the CUDA toolkit of the build?)", e)
        })?;
        let functions = Kernel::all(element)
            .into_iter()
            .map(|kernel| {
                Ok((kernel, module.load_function(kernel.name()).map_err(|e| driver_error(kernel.name(), e))?))
            })
            .collect::<Result<_>>()?;
        // SAFETY: both are written before they are read.
        let pinned = unsafe {
            let up = context.alloc_pinned(PINNED_BYTES);
            let down = context.alloc_pinned_with_flags(PINNED_BYTES, 0);
            up.and_then(|up| Ok(Pinned { up, down: down?, busy: false }))
                .map_err(|e| driver_error("allocating pinned memory", e))?
        };
        Ok(Self {
            name: gpu.name,
            functions,
            products: Products::new(stream.clone())?,
            graphs: Graphs::new(stream.clone()),
            pinned: Mutex::new(pinned),
            launches: AtomicU64::new(0),
            stream,
        })
    }

    /// Disables graphs, to measure what they save.
    pub fn without_graphs(mut self) -> Self {
        self.graphs = Graphs::none(self.stream.clone());
        self
    }

    /// The driver's name of the GPU.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Free and total memory, in bytes.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.stream.context().mem_get_info().map_err(|e| driver_error("memory", e))
    }

    /// Returns cached memory to the driver.
    fn trim(&self) -> Result<(), DriverError> {
        self.stream.synchronize()?;
        if self.stream.context().has_async_alloc() {
            // SAFETY: the context is alive, and its device's memory pool lives as long.
            unsafe {
                let pool = result::device::get_mem_pool(self.stream.context().cu_device())?;
                result::mem_pool::trim_to(pool, 0)?;
            }
        }
        Ok(())
    }

    fn count_launch(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes the driver cache freed memory. By default it releases it at every synchronization, and allocating memory for
/// a sentence would map it again.
fn keep_memory(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    // SAFETY: the context is alive; the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, RELEASE_THRESHOLD, (&raw mut threshold).cast())
    }
}

/// A driver error with its context.
fn driver_error(what: &str, error: DriverError) -> Error {
    Error::Device(format!("{what}: {error}"))
}

impl Device for Cuda {
    type Buffer = CudaSlice<u8>;

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        let zeros = || self.stream.alloc_zeros::<u8>(bytes.max(1));
        let full = |e: &DriverError| e.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        let made = match zeros() {
            Err(error) if full(&error) => self.trim().and_then(|()| zeros()),
            made => made,
        };
        made.map_err(|error| match full(&error) {
            true => Error::DeviceMemory { bytes, free: self.memory().map_or(0, |(free, _)| free) },
            false => driver_error("memory", error),
        })
    }

    fn address(&self, buffer: &CudaSlice<u8>) -> Address {
        buffer.device_ptr(&self.stream).0
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |from: &[u8]| {
            // SAFETY: the caller guarantees that `to` has enough memory. `from` outlives the copy: it is either
            // pinned memory, which is not written while `busy`, or pageable memory, which the driver has read
            // when this returns.
            unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }
        };
        let copied = self.stream.context().bind_to_thread().and_then(|()| {
            if from.len() > PINNED_BYTES {
                return copy(from).and_then(|()| self.stream.synchronize());
            }
            if std::mem::replace(&mut pinned.busy, true) {
                self.stream.synchronize()?;
            }
            let up = &mut pinned.up.as_mut_slice()?[..from.len()];
            up.copy_from_slice(from);
            copy(up)
        });
        copied.map_err(|e| driver_error("upload", e))
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |to: &mut [u8]| {
            // SAFETY: the caller guarantees that `from` has enough memory; `to` lives until the stream is
            // synchronized below.
            unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) }
                .and_then(|()| self.stream.synchronize())
        };
        let copied = self.stream.context().bind_to_thread().and_then(|()| {
            if to.len() > PINNED_BYTES {
                copy(to)?;
            } else {
                let down = &mut pinned.down.as_mut_slice()?[..to.len()];
                copy(down)?;
                to.copy_from_slice(down);
            }
            pinned.busy = false;
            Ok(())
        });
        copied.map_err(|e| driver_error("download", e))
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let copied = self.stream.context().bind_to_thread().and_then(|()| {
            // SAFETY: the caller guarantees that both have enough memory.
            unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
        });
        copied.map_err(|e| driver_error("copy", e))
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let function = self
            .functions
            .get(&kernel)
            .ok_or_else(|| Error::Device(format!("{} was not loaded", kernel.name())))?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(pointer).collect();
        self.count_launch();
        let launched = self.stream.context().bind_to_thread().and_then(|()| {
            // SAFETY: the arguments match the kernel; the driver copies them before it returns.
            unsafe {
                result::launch_kernel(
                    function.cu_function(),
                    (grid.width, grid.height, 1),
                    (grid.threads, 1, 1),
                    (grid.shared_floats * 4) as u32,
                    self.stream.cu_stream(),
                    &mut pointers,
                )
            }
        });
        launched.map_err(|e| driver_error(kernel.name(), e))
    }

    fn product(&self, product: &Product) -> Result<()> {
        self.count_launch();
        self.products.run(product)
    }

    fn replay(&self, key: u64, record: &dyn Fn() -> Result<()>) -> Result<()> {
        self.graphs.replay(key, record, &self.launches)
    }

    fn counts(&self) -> Counts {
        Counts { launches: self.launches.load(Ordering::Relaxed), ..self.graphs.counts() }
    }
}

/// A pointer to the value of an argument.
fn pointer(argument: &Argument) -> *mut c_void {
    match argument {
        Argument::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
        Argument::U32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        Argument::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
    }
}
