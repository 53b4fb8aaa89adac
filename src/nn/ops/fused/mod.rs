//! Sublayers of a transformer as one op each, for training on CPUs with AMX. An op computes norm, products, attention,
//! dropout and residual sum for a few hundred rows at a time, so that intermediate values stay in the cache. Padding is
//! skipped. Activations are bf16, because the products round them anyway; the residual stream, norms, sums and
//! gradients of weights are f32.
//!
//! Results and gradients equal those of the composed ops of `nn::ops` up to rounding, which tests check. Gradients of
//! weights go to `nn::ops::gradients`. Results do not depend on the number of threads.
//!
//! Functions with `target_feature` need AVX-512 with BF16. Callers check `fused`, `embeds`
//! or `whole_tiles` first, which require AMX.

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
mod shared;
mod sublayer;
#[cfg(test)]
mod tests;
mod tile;

use candle_core::{DType, Tensor};

use super::kernel_path::{KernelPath, select_path};
use crate::nn::gemm::lines::Line;
use crate::nn::gemm::{Precision, amx_selected};

pub use chain::{Sublayer, chain};
pub use cross_attention::{Source, cross_attention as cross_attention_sublayer};
pub use feed_forward::feed_forward as feed_forward_sublayer;
pub use input::embedded;
pub use self_attention::self_attention as self_attention_sublayer;

/// An affine map: weight `[out, in]`, bias `[out]`.
#[derive(Clone)]
pub struct Affine {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// The norm before a sublayer and the dropout after it.
pub struct Frame<'a> {
    pub gain: &'a Tensor,
    pub bias: &'a Tensor,
    pub eps: f32,
    /// Number of real positions of each row.
    pub lengths: &'a [usize],
    /// Probability and seed.
    pub dropout: (f32, u64),
}

/// Whether this module supports sublayers of `x [rows, len, width]`; see `tiled`. `widths` are those of all rows and
/// heads.
pub fn fused(x: &Tensor, precision: Precision, widths: &[usize]) -> bool {
    x.rank() == 3 && tiled(precision, x, widths)
}

/// Whether [`embedded`] supports these positions, that is, whether the following layers are fused.
pub fn embeds(positions: &Tensor, precision: Precision) -> bool {
    positions.dims2().is_ok_and(|(_, width)| tiled(precision, positions, &[width]))
}

/// Whether rows of these widths can use tiles: in bf16, on a CPU with AMX, and if all widths are multiples of a tile.
pub(super) fn tiled(precision: Precision, x: &Tensor, widths: &[usize]) -> bool {
    precision == Precision::Bf16
        && x.dtype() == DType::F32
        && select_path(x) == KernelPath::Cpu
        && whole_tiles(widths)
}

/// Whether this CPU has tiles and all widths are multiples of one.
pub(super) fn whole_tiles(widths: &[usize]) -> bool {
    widths.iter().all(|width| width.is_multiple_of(tile::SIDE)) && amx_selected()
}
