//! The feed-forward sublayer: `x + dropout(W₂ · relu(W₁ · norm(x) + b₁) + b₂)`.

use candle_core::{Result, Tensor};

use super::buffer::Buffer;
use super::chain::Sublayer;
use super::layout::Block;
use super::pass::{Packed, add_weight_gradient, for_blocks, normalise, packed, packed_for_backward, wide};
use super::rows::{Norm, biased, masked};
use super::shared::Shared;
use super::sublayer::{PreNormResidual, SavedForBackward, host, steps};
use super::tile::{MatrixView, SIDE, pack_left, pack_right};
use super::{Affine, Frame};

/// See the module.
pub fn feed_forward(x: &Tensor, frame: &Frame, inner: Affine, outer: Affine) -> Result<Box<dyn Sublayer>> {
    let residual = PreNormResidual::new(x, frame)?;
    residual.count(x, &inner)?;
    residual.count(x, &outer)?;
    let hidden = inner.weight.dim(0)?;
    Ok(Box::new(FeedForward { residual, inner, outer, hidden, activations: SavedForBackward::empty() }))
}

struct FeedForward {
    residual: PreNormResidual,
    inner: Affine,
    outer: Affine,
    hidden: usize,
    /// Values after the ReLU, bf16, row by row, for the backward pass.
    activations: SavedForBackward<Buffer>,
}

impl Sublayer for FeedForward {
    fn forward(&self, x: &[f32], _memory: &[f32]) -> Result<Vec<f32>> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) = (packed(&self.inner.weight)?, packed(&self.outer.weight)?);
        let (inner_bias, outer_bias) = (host(&self.inner.bias)?, host(&self.outer.bias)?);
        let width = self.residual.width;
        let mut activations = Buffer::bf16(self.residual.layout.rows, self.hidden);
        let shared = Shared::new(activations.as_bf16_mut());
        let write = |to: &Shared<f32>| {
            for_blocks(&self.residual.layout, |block| {
                let mut normal = Buffer::bf16(block.rows, width);
                let own = shared.at(block.first * self.hidden);
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    let left = MatrixView::of(normal.as_bf16(), width);
                    expand(left, block, inner.as_lines(), steps(width), &inner_bias, own, self.hidden);
                    let left = MatrixView { at: own, stride: self.hidden };
                    let right = outer.as_lines();
                    self.residual.add_branch(block, left, right, steps(self.hidden), &outer_bias, x, to);
                }
            });
        };
        // SAFETY: every row with a token belongs to a block.
        let y = unsafe { self.residual.layout.batch(x.len(), width, write) };
        self.activations.save(activations);
        Ok(y)
    }

    fn backward(&self, x: &[f32], _memory: &[f32], dy: &[f32], _dmemory: &mut [f32]) -> Result<Vec<f32>> {
        let activations = self.activations.take()?;
        self.gradients(x, dy, &activations)
    }
}

/// `relu(left · right + bias)` for a block.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn expand(
    left: MatrixView,
    block: &Block,
    right: &[super::Line],
    steps: usize,
    bias: &[f32],
    out: *mut u16,
    columns: usize,
) {
    unsafe {
        wide(left, block.rows, right, (steps, columns), |row, column, sums| {
            biased(sums, &bias[column..][..SIDE], 0.0, out.add(row * columns + column), columns);
        });
    }
}

impl FeedForward {
    fn gradients(&self, x: &[f32], dy: &[f32], activations: &Buffer) -> Result<Vec<f32>> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) =
            (packed_for_backward(&self.inner.weight)?, packed_for_backward(&self.outer.weight)?);
        let (layout, width, hidden) = (&self.residual.layout, self.residual.width, self.hidden);
        let mut sums = Vec::new();
        let lines = |width: usize| Buffer::lines(layout.rows * width / SIDE);
        let (mut grads, mut acts, mut normals, mut branches) =
            (lines(hidden), lines(hidden), lines(width), lines(width));
        let places = [&mut grads, &mut acts, &mut normals, &mut branches];
        let [grad_lines, act_lines, normal_lines, branch_lines] =
            places.map(|buffer| Shared::new(buffer.as_lines_mut()));
        let write = |to: &Shared<f32>| {
            sums = for_blocks(layout, |block| {
                let rows = block.rows;
                let (mut normal, mut branch) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let mut inner_grads = Buffer::bf16(rows, hidden);
                let [mut dgain, mut dbias, mut douter] = [(); 3].map(|()| vec![0f32; width]);
                let mut dinner = vec![0f32; hidden];
                let act = activations.as_bf16()[block.first * hidden..].as_ptr();
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows and lines.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    self.residual.branch_gradient(block, dy, &mut douter, branch.as_bf16_mut());
                    let left = MatrixView::of(branch.as_bf16(), width);
                    let out = inner_grads.as_bf16_mut().as_mut_ptr();
                    contract(left, block, outer.as_lines(), steps(width), act, out, &mut dinner);
                    let left = MatrixView::of(inner_grads.as_bf16(), hidden);
                    let norm_sums = (&mut dgain[..], &mut dbias[..]);
                    let (right, steps_in) = (inner.as_lines(), steps(hidden));
                    self.residual.input_gradient(block, left, right, steps_in, norm, x, dy, to, norm_sums);
                    let of = steps(rows);
                    pack_left(left, rows, of, hidden, grad_lines.block(block, hidden));
                    pack_left(
                        MatrixView { at: act, stride: hidden },
                        rows,
                        of,
                        hidden,
                        act_lines.block(block, hidden),
                    );
                    pack_right(
                        MatrixView::of(normal.as_bf16(), width),
                        rows,
                        of,
                        width,
                        normal_lines.block(block, width),
                    );
                    pack_right(
                        MatrixView::of(branch.as_bf16(), width),
                        rows,
                        of,
                        width,
                        branch_lines.block(block, width),
                    );
                }
                [dgain, dbias, dinner, douter]
            });
        };
        // SAFETY: every row with a token belongs to a block.
        let dx = unsafe { layout.batch(x.len(), width, write) };
        self.residual.add_small_gradients(&sums, &self.inner.bias, &self.outer.bias)?;
        let operand = |buffer, width| Packed { lines: Buffer::as_lines(buffer), width };
        add_weight_gradient(
            layout,
            operand(&grads, hidden),
            operand(&normals, width),
            false,
            &self.inner.weight,
        )?;
        add_weight_gradient(
            layout,
            operand(&acts, hidden),
            operand(&branches, width),
            true,
            &self.outer.weight,
        )?;
        Ok(dx)
    }
}

/// `left · right` where the activation is above 0, else 0. Adds its sum over rows to `sums`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn contract(
    left: MatrixView,
    block: &Block,
    right: &[super::Line],
    steps: usize,
    act: *const u16,
    out: *mut u16,
    sums: &mut [f32],
) {
    let columns = sums.len();
    unsafe {
        wide(left, block.rows, right, (steps, columns), |row, column, c| {
            let at = row * columns + column;
            masked(c, act.add(at), out.add(at), columns, &mut sums[column..][..SIDE]);
        });
    }
}
