//! Shared by the fused sublayers: the pre-norm residual connection `y = x + dropout(f(norm(x)))`, where f ends in a
//! product.

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, Tensor, bail};

use super::super::flop_count;
use super::super::gradients::add_to;
use super::super::types::Mask;
use super::layout::{Block, Layout};
use super::pass::narrow;
use super::rows::{Norm, dropout_gradient, residual};
use super::shared::Shared;
use super::tile::{MatrixView, SIDE};
use super::{Affine, Frame};
use crate::nn::gemm::lines::Line;

/// The norm, dropout and residual sum of a sublayer, for one batch.
pub(super) struct PreNormResidual {
    pub gain: Tensor,
    pub bias: Tensor,
    pub eps: f32,
    pub mask: Mask,
    pub layout: Layout,
    /// Width of the residual stream.
    pub width: usize,
}

/// A value that a forward pass saves for its backward pass.
pub(super) struct SavedForBackward<T>(Mutex<Option<T>>);

impl<T> SavedForBackward<T> {
    pub fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub fn save(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// # Errors
    /// If there was no forward pass, or a backward pass has already taken the value.
    pub fn take(&self) -> Result<T> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(value) => Ok(value),
            None => bail!("the gradients of a fused layer were already computed, or it had no forward pass"),
        }
    }
}

/// The values of a vector.
pub(super) fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec1()
}

impl PreNormResidual {
    pub fn new(x: &Tensor, frame: &Frame) -> Result<Self> {
        let (rows, len, width) = x.dims3()?;
        let lengths = frame.lengths;
        if lengths.len() != rows || lengths.iter().any(|&l| l == 0 || l > len) {
            bail!("lengths {lengths:?} do not fit {rows} rows of {len} positions");
        }
        let (p, seed) = frame.dropout;
        Ok(Self {
            gain: frame.gain.clone(),
            bias: frame.bias.clone(),
            eps: frame.eps,
            mask: Mask::new(p, seed),
            layout: Layout::new(lengths, len),
            width,
        })
    }

    /// Counts the products of a weight with all rows.
    pub fn count(&self, x: &Tensor, affine: &Affine) -> Result<()> {
        flop_count::count_rows(self.layout.real, x.track_op(), &affine.weight)
    }

    pub fn norm_values(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((host(&self.gain)?, host(&self.bias)?))
    }

    /// Adds the sums of all blocks, in order, to the gradients of the norm's gain and bias, and of the biases of the
    /// first and the last product.
    pub fn add_small_gradients(&self, sums: &[[Vec<f32>; 4]], inner: &Tensor, outer: &Tensor) -> Result<()> {
        for (which, tensor) in [&self.gain, &self.bias, inner, outer].into_iter().enumerate() {
            add_to(tensor, |to| {
                for part in sums {
                    to.iter_mut().zip(&part[which]).for_each(|(sum, part)| *sum += part);
                }
            })?;
        }
        Ok(())
    }

    /// For each row of a block its row in the padded batch; `None` for empty rows.
    pub fn padded(&self, block: &Block) -> &[Option<u32>] {
        &self.layout.padded[block.first..block.first + block.rows]
    }

    /// `y = x + dropout(left · right + bias)` for a block.
    ///
    /// # Safety
    /// `left` must have the rows of the block, `y` those of the padded batch, and tiles must be configured.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn add_branch(
        &self,
        block: &Block,
        left: MatrixView,
        right: &[Line],
        steps: usize,
        bias: &[f32],
        x: &[f32],
        y: &Shared<f32>,
    ) {
        let (padded, width) = (self.padded(block), self.width);
        unsafe {
            narrow(left, block.rows, right, (steps, width), |row, sums| {
                if let Some(at) = padded[row] {
                    let first = at as usize * width;
                    residual(sums, bias, self.mask, first, &x[first..][..width], y.part(first, width));
                }
            });
        }
    }

    /// The gradient of the input of dropout for a block; zeros for empty rows. Adds its sum over rows to `sums`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub fn branch_gradient(&self, block: &Block, dy: &[f32], sums: &mut [f32], out: &mut [u16]) {
        let width = self.width;
        let mut scratch = vec![0.0; width];
        for (padded, out) in self.padded(block).iter().zip(out.chunks_exact_mut(width)) {
            match padded {
                Some(row) => {
                    let first = *row as usize * width;
                    dropout_gradient(&dy[first..][..width], first, self.mask, &mut scratch, sums, out);
                }
                None => out.fill(0),
            }
        }
    }

    /// The gradient of `x` for a block, where `left · right` is the gradient of the normalized rows.
    ///
    /// # Safety
    /// As [`Self::close`].
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn input_gradient(
        &self,
        block: &Block,
        left: MatrixView,
        right: &[Line],
        steps: usize,
        norm: Norm,
        x: &[f32],
        dy: &[f32],
        dx: &Shared<f32>,
        (dgain, dbias): (&mut [f32], &mut [f32]),
    ) {
        let (padded, width) = (self.padded(block), self.width);
        let mut scratch = vec![0.0; 2 * width];
        unsafe {
            narrow(left, block.rows, right, (steps, width), |row, sums| {
                if let Some(at) = padded[row] {
                    let first = at as usize * width;
                    let (x, dy) = (&x[first..][..width], &dy[first..][..width]);
                    norm.backward(x, sums, dy, dx.part(first, width), dgain, dbias, &mut scratch);
                }
            });
        }
    }
}

/// Number of steps of a reduction over `width` values.
pub(super) fn steps(width: usize) -> usize {
    width / SIDE
}
