//! NCCL: sums over the GPUs of one machine, queued on the stream that everything else is queued on.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use candle_core::cuda_backend::cudarc;
use candle_core::{Device, Storage, Tensor};
use cudarc::nccl::result::{NcclError, all_reduce, comm_abort, comm_init_rank, get_uniqueid};
use cudarc::nccl::sys;

use super::tensors::address;
use crate::{Error, Result};

/// One rank's way to the others. Ranks must ask for the same sums in the same order.
pub struct Collective {
    communicator: sys::ncclComm_t,
    device: candle_core::CudaDevice,
}

/// What the ranks of a group find each other by: one of them makes it and tells the others.
pub fn key() -> Result<Vec<c_char>> {
    let id = get_uniqueid().map_err(|e| told("making a key", &e))?;
    Ok(id.internal.to_vec())
}

impl Collective {
    /// Waits for all `ranks`. `device` is this rank's own GPU.
    ///
    /// # Errors
    /// What NCCL says, two ranks on one GPU for example; a device that is no GPU, a key that none made.
    pub fn join(device: &Device, rank: usize, ranks: usize, key: &[c_char]) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        if key.len() != id.internal.len() {
            return Err(Error::Device(format!(
                "NCCL: a key has {} bytes, not {}",
                id.internal.len(),
                key.len()
            )));
        }
        id.internal.copy_from_slice(key);
        device.cuda_stream().context().bind_to_thread().map_err(|e| Error::Device(format!("NCCL: {e}")))?;
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: it is written where NCCL says that it was; the GPU is this thread's present one.
        let communicator = unsafe {
            comm_init_rank(communicator.as_mut_ptr(), ranks as i32, id, rank as i32)
                .map_err(|e| told(&format!("rank {rank} of {ranks}"), &e))?;
            communicator.assume_init()
        };
        Ok(Self { communicator, device })
    }

    /// `tensor` becomes its sum over all ranks; it is contiguous, of f32 and of the same size everywhere, and nobody
    /// may hold its memory by another name. Only queued: what is queued behind it sees the sum.
    ///
    /// # Errors
    /// What NCCL says; a tensor of another device.
    pub fn sum_in_place(&self, tensor: &Tensor) -> Result<()> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::Device("NCCL: a tensor is not on a GPU".into()));
        };
        let at = address(storage, layout)?;
        // SAFETY: so many f32 lie there, and everything on them is queued on this stream.
        unsafe {
            all_reduce(
                at as *const _,
                at as *mut _,
                tensor.elem_count(),
                sys::ncclDataType_t::ncclFloat32,
                sys::ncclRedOp_t::ncclSum,
                self.communicator,
                self.device.cuda_stream().cu_stream() as _,
            )
        }
        .map(drop)
        .map_err(|e| told("a sum", &e))
    }
}

impl Drop for Collective {
    fn drop(&mut self) {
        // SAFETY: made by `join` and used by nobody from here on. Aborting waits for no rank that has failed.
        let _ = unsafe { comm_abort(self.communicator) };
    }
}

fn told(doing: &str, error: &NcclError) -> Error {
    Error::Device(format!(
        "NCCL, {doing}: {error:?}; NCCL_DEBUG=INFO says more, and a build without the feature nccl does without it"
    ))
}
