//! What a network in packed rows asks of a device that is not the CPU: memory, copies, the kernels of
//! `kernels.cu`, products, and the replay of a fixed sequence of them.
//!
//! [`Device`] is the seam. `cuda` is the real one, with the feature of that name; `testing::emulated` runs the same
//! kernel source on the CPU, for tests, so that everything above the seam is checked where there is no GPU.
//!
//! Work is queued in order and [`Device::download`] waits for it. Knows no networks, sentences or files.

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

/// Where something lies in the device's memory, in bytes. 0 is nowhere.
pub type Address = u64;

/// The type of weights and of what goes into products; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    Bf16,
    F16,
}

impl Element {
    /// In bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// As the device reads them.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_ne_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_ne_bytes()).collect(),
        }
    }

    /// What [`Self::encode`] makes.
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

/// The functions of `kernels.cu` and `training.cuh`, which say what each takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    Embed(Element),
    Norm(Element),
    /// For heads of at most 32, 64 or 128 values.
    Attention(Element, Columns),
    BestTokens,
    LengthClasses,
    Training(Training),
}

/// Values of a head that each lane of a warp sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Columns {
    One,
    Two,
    Four,
}

impl Columns {
    /// For heads of so many values; none if that is too many.
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
    /// Every kernel that a network with weights of this type may launch.
    pub fn all(element: Element) -> Vec<Self> {
        let attention = [Columns::One, Columns::Two, Columns::Four].map(|c| Self::Attention(element, c));
        [Self::Embed(element), Self::Norm(element), Self::BestTokens, Self::LengthClasses]
            .into_iter()
            .chain(attention)
            .collect()
    }

    /// Its name in `kernels.cu`.
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

/// A parameter of a kernel.
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

/// Blocks, threads and memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub width: u32,
    pub height: u32,
    /// Of a block; a multiple of 32, at most 256.
    pub threads: u32,
    /// Of a block, in floats, beside what the kernel declares itself.
    pub shared_floats: usize,
}

impl Grid {
    /// A block for each row.
    pub fn rows(rows: usize, threads: u32) -> Self {
        Self { width: rows as u32, height: 1, threads, shared_floats: 0 }
    }

    /// A block gets no more than this unless asked for specially.
    pub const MOST_SHARED_FLOATS: usize = 48 * 1024 / 4;
}

/// Where a product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// `y = x · Wᵀ + b`, in the element type; the bias is of that type.
    Store,
    /// `y = relu(x · Wᵀ + b)`, likewise.
    Relu,
    /// `y += x · Wᵀ + b`, where y and b are f32.
    Add,
    /// `y = x · Wᵀ + b`, where y and b are f32.
    Wide,
}

/// `x [rows, inputs]` by the rows of a weight matrix `[outputs, inputs]`, both of the element type; what
/// [`Then`] says happens to `y [rows, outputs]`. Inputs and outputs are multiples of 8, addresses of 16.
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
    pub then: Then,
}

/// What was asked of a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels and products that the host launched one by one.
    pub launches: u64,
    /// Sequences that were replayed as one graph, and those that were recorded.
    pub replays: u64,
    pub recordings: u64,
    /// Kernels and products inside replayed graphs.
    pub replayed_launches: u64,
}

/// A queue of work on one device.
///
/// # Errors
/// Each function gives [`crate::Error::Device`] with what the driver said.
pub trait Device: Send + 'static {
    /// Memory that is freed with it, once the work queued before is done.
    type Buffer: Send + Sync + Debug;

    /// Of zeros.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer>;

    fn address(&self, buffer: &Self::Buffer) -> Address;

    /// The bytes may change once this returns.
    fn upload(&self, from: &[u8], to: Address) -> Result<()>;

    /// Waits for all that was queued before.
    fn download(&self, from: Address, to: &mut [u8]) -> Result<()>;

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    /// The arguments must be those that the kernel takes, and what they point to must be there and large
    /// enough: nothing checks it.
    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// A row of the result has the same bits whatever the number of rows.
    fn product(&self, product: &Product) -> Result<()>;

    /// Does what `record` does, which must be the same launches and products with the same arguments
    /// whenever `key` is the same; a device may therefore remember them.
    fn replay(&self, key: u64, record: &dyn Fn() -> Result<()>) -> Result<()>;

    fn counts(&self) -> Counts;
}
