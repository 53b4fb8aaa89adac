//! The interface of devices other than the CPU, for networks in packed rows: memory, copies, the kernels of
//! `kernels.cu`, matrix products, and the replay of fixed sequences of them.
//!
//! [`Device`] is the interface. `cuda` implements it with the feature of that name. `testing::emulated` runs the same
//! kernel source on the CPU, so that tests cover everything above the interface without a GPU.
//!
//! Work is queued and runs in order; [`Device::download`] waits for it. This module does not depend on
//! networks, sentences or files.

#[cfg(feature = "cuda")]
pub mod cuda;
mod found;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod training;

use std::fmt::Debug;

use half::{bf16, f16};

use crate::Result;
pub use training::Training;

/// An address in device memory, in bytes; 0 for none.
pub type Address = u64;

/// The type of weights and of the operands of products. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    Bf16,
    F16,
}

impl Element {
    /// Size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Converts values to the bytes that the device reads.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_ne_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_ne_bytes()).collect(),
        }
    }

    /// The inverse of [`Self::encode`].
    #[cfg(test)]
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Self::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_ne_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::F16 => bytes.chunks_exact(2).map(|b| f16::from_ne_bytes([b[0], b[1]]).to_f32()).collect(),
        }
    }
}

/// The functions of `kernels.cu` and `training.cuh`. Their arguments are documented there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Embed(Element),
    Norm(Element),
    /// Attention; [`Columns`] depends on the width of a head.
    Attention(Element, Columns),
    BestTokens,
    LengthClasses,
    Training(Training),
}

/// Number of values of a head that each lane of a warp computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Columns {
    One,
    Two,
    Four,
}

impl Columns {
    /// For heads of width `head`; `None` above 128.
    pub fn of(head: usize) -> Option<Self> {
        match head {
            ..=32 => Some(Self::One),
            33..=64 => Some(Self::Two),
            65..=128 => Some(Self::Four),
            _ => None,
        }
    }
}

impl Kernel {
    /// All kernels of a network with weights of this type.
    pub fn all(element: Element) -> Vec<Self> {
        let attention = [Columns::One, Columns::Two, Columns::Four].map(|c| Self::Attention(element, c));
        [Self::Embed(element), Self::Norm(element), Self::BestTokens, Self::LengthClasses]
            .into_iter()
            .chain(attention)
            .collect()
    }

    /// Its name in `kernels.cu` or `training.cuh`.
    pub fn name(self) -> &'static str {
        use Columns::{Four, One, Two};
        use Element::{Bf16, F16, F32};
        match self {
            Self::Embed(F32) => "embed_f32",
            Self::Embed(Bf16) => "embed_bf16",
            Self::Embed(F16) => "embed_f16",
            Self::Norm(F32) => "norm_f32",
            Self::Norm(Bf16) => "norm_bf16",
            Self::Norm(F16) => "norm_f16",
            Self::Attention(F32, One) => "attention1_f32",
            Self::Attention(F32, Two) => "attention2_f32",
            Self::Attention(F32, Four) => "attention4_f32",
            Self::Attention(Bf16, One) => "attention1_bf16",
            Self::Attention(Bf16, Two) => "attention2_bf16",
            Self::Attention(Bf16, Four) => "attention4_bf16",
            Self::Attention(F16, One) => "attention1_f16",
            Self::Attention(F16, Two) => "attention2_f16",
            Self::Attention(F16, Four) => "attention4_f16",
            Self::BestTokens => "best_tokens_f32",
            Self::LengthClasses => "length_classes_f32",
            Self::Training(kernel) => kernel.name(),
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    Address(Address),
    U32(u32),
    F32(f32),
}

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

/// A count or a stride.
impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

/// Blocks, threads and shared memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub width: u32,
    pub height: u32,
    /// Threads of a block: a multiple of 32, at most 256.
    pub threads: u32,
    /// Dynamic shared memory of a block, in floats.
    pub shared_floats: usize,
}

impl Grid {
    /// One block for each row.
    pub fn rows(rows: usize, threads: u32) -> Self {
        Self { width: rows as u32, height: 1, threads, shared_floats: 0 }
    }

    /// Largest shared memory of a block without special request.
    pub const MAX_SHARED_FLOATS: usize = 48 * 1024 / 4;
}

/// How the result of a product is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// `y = x · Wᵀ + b`; y and b have the element type.
    Store,
    /// `y = relu(x · Wᵀ + b)`; y and b have the element type.
    Relu,
    /// `y += x · Wᵀ + b`; y and b are f32.
    Add,
    /// `y = x · Wᵀ + b`; y and b are f32.
    Wide,
}

/// A product of `x [rows, inputs]` with the transpose of a weight matrix `[outputs, inputs]`, both of the element
/// type. The result is stored in `y [rows, outputs]` according to [`Epilogue`]. Inputs and outputs must be multiples of
/// 8, addresses multiples of 16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    pub element: Element,
    pub x: Address,
    pub weight: Address,
    pub bias: Address,
    pub y: Address,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub epilogue: Epilogue,
}

/// Counters of a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels and products launched one by one.
    pub launches: u64,
    /// Graphs that were replayed and recorded.
    pub replays: u64,
    pub recordings: u64,
    /// Kernels and products inside replayed graphs.
    pub replayed_launches: u64,
}

/// A queue of work on one device.
///
/// # Errors
/// All functions return [`crate::Error::Device`] with the driver's message.
pub trait Device: Send + 'static {
    /// Device memory. When dropped, it is freed after the work that was queued before.
    type Buffer: Send + Sync + Debug;

    /// Allocates zeroed memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer>;

    fn address(&self, buffer: &Self::Buffer) -> Address;

    /// Copies to the device. `from` may change as soon as this returns.
    fn upload(&self, from: &[u8], to: Address) -> Result<()>;

    /// Copies to the host, after all work that was queued before.
    fn download(&self, from: Address, to: &mut [u8]) -> Result<()>;

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    /// Queues a kernel. Nothing is checked: the arguments must match the kernel, and the memory behind addresses must
    /// exist and be large enough.
    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// Queues a product. The result for a row must not depend on the number of rows, bit for bit.
    fn product(&self, product: &Product) -> Result<()>;

    /// Runs `record`, or replays an earlier recording of it. For equal keys `record` must queue the same launches and
    /// products with the same arguments.
    fn replay(&self, key: u64, record: &dyn Fn() -> Result<()>) -> Result<()>;

    fn counts(&self) -> Counts;
}
