//! Whole sublayers of a transformer as one op each, for training on CPUs with AMX: norm, products, attention, dropout and residual sum
//! of a few hundred rows at a time, so that what lies between the products stays in the cache. Padding is left out. Activations are
//! bf16, as the products round them anyway; the residual stream, norms, sums and gradients of weights are f32.
//!
//! Each has the gradient of the composition of the other ops of `nn::ops`, up to rounding; tests hold the two together. Gradients of
//! weights go to `nn::ops::gradients`. Results do not depend on the number of threads.

mod attention;
mod buffer;
mod chain;
mod cross_attention;
mod feed_forward;
mod input;
mod layout;
pub(super) mod linear;
pub(super) mod output;
pub(super) mod output_gradients;
mod pass;
mod rows;
mod self_attention;
mod sublayer;
#[cfg(test)]
mod tests;
mod tile;

use candle_core::{DType, Tensor};

use super::kernel_path::{KernelPath, select_path};
use crate::nn::gemm::lines::Line;
use crate::nn::gemm::{Precision, tiles_chosen};

pub use chain::{Sublayer, chain};
pub use cross_attention::cross_attention as cross_attention_sublayer;
pub use feed_forward::feed_forward as feed_forward_sublayer;
pub use input::embedded;
pub use self_attention::self_attention as self_attention_sublayer;

/// An affine map: weight `[out, in]`, bias `[out]`.
#[derive(Clone)]
pub struct Affine {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// What surrounds a sublayer: the norm in front, dropout (probability and seed) and residual sum behind.
pub struct Frame<'a> {
    pub gain: &'a Tensor,
    pub bias: &'a Tensor,
    pub eps: f32,
    /// Real positions of each row.
    pub lengths: &'a [usize],
    pub dropout: (f32, u64),
}

/// Whether the sublayers of this module can do what is asked of `x [rows, len, width]`: see `tiled`. `widths` are those of all rows
/// and heads.
pub fn fused(x: &Tensor, precision: Precision, widths: &[usize]) -> bool {
    x.rank() == 3 && tiled(precision, x, widths)
}

/// Whether [`embedded`] is the way for such positions: wherever the layers behind it are fused.
pub fn embeds(positions: &Tensor, precision: Precision) -> bool {
    positions.dims2().is_ok_and(|(_, width)| tiled(precision, positions, &[width]))
}

/// Whether rows of such widths can be worked on by tiles: bf16 on a CPU with AMX, and widths of whole tiles.
pub(super) fn tiled(precision: Precision, x: &Tensor, widths: &[usize]) -> bool {
    precision == Precision::Bf16
        && x.dtype() == DType::F32
        && select_path(x) == KernelPath::Cpu
        && whole_tiles(widths)
}

/// Whether there are tiles on this CPU, and the widths are whole ones.
pub(super) fn whole_tiles(widths: &[usize]) -> bool {
    widths.iter().all(|width| width.is_multiple_of(tile::SIDE)) && tiles_chosen()
}
