//! NCCL: sums over the GPUs of one machine, queued on the stream of all other work.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use candle_core::cuda_backend::cudarc;
use candle_core::{Device, Storage, Tensor};
use cudarc::nccl::result::{NcclError, all_reduce, comm_abort, comm_init_rank, get_uniqueid};
use cudarc::nccl::sys;

use super::tensors::address;
use crate::{Error, Result};

/// The connection of one rank to the others. All ranks must request the same sums in the same order.
pub struct Collective {
    communicator: sys::ncclComm_t,
    device: candle_core::CudaDevice,
}

/// Makes the key by which the ranks of a group find each other. One rank makes it and passes it to the others.
pub fn key() -> Result<Vec<c_char>> {
    let id = get_uniqueid().map_err(|e| nccl_error("making a key", &e))?;
    Ok(id.internal.to_vec())
}

impl Collective {
    /// Connects to the other ranks, and waits until all `ranks` have joined. `device` is this rank's own GPU.
    ///
    /// # Errors
    /// Those of NCCL, for example if two ranks use the same GPU; and if `device` is not a GPU or `key` is invalid.
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
        // SAFETY: the communicator is read only after NCCL reported success; the GPU is current on this thread.
        let communicator = unsafe {
            comm_init_rank(communicator.as_mut_ptr(), ranks as i32, id, rank as i32)
                .map_err(|e| nccl_error(&format!("rank {rank} of {ranks}"), &e))?;
            communicator.assume_init()
        };
        Ok(Self { communicator, device })
    }

    /// Replaces `tensor` by its sum over all ranks. The tensor must be contiguous, f32, of the same size on all
    /// ranks, and its memory must not be shared with another tensor. The sum is only queued; later work on the stream
    /// sees it.
    ///
    /// # Errors
    /// Those of NCCL, and if the tensor is on another device.
    pub fn sum_in_place(&self, tensor: &Tensor) -> Result<()> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::Device("NCCL: a tensor is not on a GPU".into()));
        };
        let at = address(storage, layout)?;
        // SAFETY: `elem_count` f32 values start at `at`, and all work on them is queued on this stream.
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
        .map_err(|e| nccl_error("a sum", &e))
    }
}

impl Drop for Collective {
    fn drop(&mut self) {
        // SAFETY: made by `join` and not used after this. Aborting does not wait for ranks that failed.
        let _ = unsafe { comm_abort(self.communicator) };
    }
}

fn nccl_error(action: &str, error: &NcclError) -> Error {
    Error::Device(format!(
        "NCCL, {action}: {error:?}; set NCCL_DEBUG=INFO for details, or build without the feature `nccl`"
    ))
}
