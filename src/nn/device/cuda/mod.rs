//! An NVIDIA GPU as a [`Device`]: one stream, on which everything happens in order; kernels from PTX that the
//! build made of `kernels.cu`; pinned memory for what goes up and comes back.
//!
//! `products` are cuBLASLt's, `graphs` replays recorded passes, `probe` asks the driver what there is, and
//! `tensors` lends kernels to candle's tensors and `collective` adds them up over GPUs, for training.

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

/// Whether GPU `number` will do; otherwise what was found and what to do.
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
    /// A copy from `up` may still be under way.
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
    /// [`Error::Device`] that says what was found and what to do.
    pub fn open(number: usize, element: Element) -> Result<Self> {
        let gpu = probe::gpu(number).map_err(Error::Device)?;
        let context = CudaContext::new(number).map_err(|e| told(&format!("opening cuda:{number}"), e))?;
        // Everything is on one stream: events between streams would only cost time and spoil recordings.
        // SAFETY: no second stream is made in this context by anyone who shares this memory.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|e| told("a stream", e))?;
        keep_memory(&context).map_err(|e| told("the memory pool", e))?;
        let module = context.load_module(Ptx::from_src(KERNELS)).map_err(|e| {
            told("loading the kernels (a driver older than the CUDA toolkit of the build?)", e)
        })?;
        let functions = Kernel::all(element)
            .into_iter()
            .map(|kernel| {
                Ok((kernel, module.load_function(kernel.name()).map_err(|e| told(kernel.name(), e))?))
            })
            .collect::<Result<_>>()?;
        // SAFETY: both are written before they are read.
        let pinned = unsafe {
            let up = context.alloc_pinned(PINNED_BYTES);
            let down = context.alloc_pinned_with_flags(PINNED_BYTES, 0);
            up.and_then(|up| Ok(Pinned { up, down: down?, busy: false }))
                .map_err(|e| told("pinned memory", e))?
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

    /// Launches everything one by one, to measure what graphs spare.
    pub fn without_graphs(mut self) -> Self {
        self.graphs = Graphs::none(self.stream.clone());
        self
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that are free and that there are.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.stream.context().mem_get_info().map_err(|e| told("memory", e))
    }

    /// Gives what freed memory the driver keeps back to it.
    fn trim(&self) -> Result<(), DriverError> {
        self.stream.synchronize()?;
        if self.stream.context().has_async_alloc() {
            // SAFETY: the device of a context that is alive; its pool lives as long.
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

/// Has the driver keep what is freed: by default it would give it back at every wait, and allocating would
/// then map memory anew for each sentence.
fn keep_memory(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    // SAFETY: the device of a context that is alive; the attribute is one number of 64 bits.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, RELEASE_THRESHOLD, (&raw mut threshold).cast())
    }
}

/// What the driver said about something.
fn told(what: &str, error: DriverError) -> Error {
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
            false => told("memory", error),
        })
    }

    fn address(&self, buffer: &CudaSlice<u8>) -> Address {
        buffer.device_ptr(&self.stream).0
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |from: &[u8]| {
            // SAFETY: the caller names memory of this device that is large enough; `from` outlives the copy,
            // being pinned memory that is not written while `busy`, or pageable memory, which the driver has
            // read when this returns.
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
        copied.map_err(|e| told("upload", e))
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = |to: &mut [u8]| {
            // SAFETY: the caller names memory of this device that is large enough; `to` lives until the stream
            // is synchronised below.
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
        copied.map_err(|e| told("download", e))
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let copied = self.stream.context().bind_to_thread().and_then(|()| {
            // SAFETY: the caller names memory of this device that is large enough.
            unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
        });
        copied.map_err(|e| told("copy", e))
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let function = self
            .functions
            .get(&kernel)
            .ok_or_else(|| Error::Device(format!("{} was not loaded", kernel.name())))?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(pointer).collect();
        self.count_launch();
        let launched = self.stream.context().bind_to_thread().and_then(|()| {
            // SAFETY: the arguments are those that the kernel takes; the driver copies them before it returns.
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
        launched.map_err(|e| told(kernel.name(), e))
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

/// Where the value of an argument lies, as the driver wants it.
fn pointer(argument: &Argument) -> *mut c_void {
    match argument {
        Argument::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
        Argument::U32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        Argument::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
    }
}
