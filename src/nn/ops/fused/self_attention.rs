//! The self-attention sublayer: `x + dropout(W_o · attention(W_qkv · norm(x) + b_qkv) + b_o)`.

use candle_core::{Result, Tensor};

use super::super::types::AttentionMask;
use super::attention::{Gradients, Heads, Scratch, Views};
use super::buffer::Buffer;
use super::chain::Sublayer;
use super::layout::{Block, Sentence};
use super::pass::{Packed, add_weight_gradient, for_blocks, normalise, packed, packed_for_backward, wide};
use super::rows::{Norm, biased, column_sums, rounded};
use super::shared::Shared;
use super::sublayer::{PreNormResidual, SavedForBackward, host, steps};
use super::tile::{MatrixView, SIDE, pack_left, pack_right};
use super::{Affine, Frame};

/// See the module. `heads` is the number of heads, which divides the width of `x`.
pub fn self_attention(
    x: &Tensor,
    frame: &Frame,
    qkv: Affine,
    output: Affine,
    heads: usize,
    mask: AttentionMask,
) -> Result<Box<dyn Sublayer>> {
    let residual = PreNormResidual::new(x, frame)?;
    residual.count(x, &qkv)?;
    residual.count(x, &output)?;
    let heads = Heads { count: heads, width: residual.width / heads, mask };
    Ok(Box::new(SelfAttention { residual, qkv, output, heads, saved: SavedForBackward::empty() }))
}

struct SelfAttention {
    residual: PreNormResidual,
    qkv: Affine,
    output: Affine,
    heads: Heads,
    saved: SavedForBackward<Saved>,
}

/// Values of the forward pass that the backward pass needs.
struct Saved {
    /// bf16, row by row: queries, keys and values side by side; the result of attention.
    qkv: Buffer,
    mixed: Buffer,
    /// Logarithms of the softmax's sums, f32, head by head.
    log_sums: Buffer,
}

/// The length of the longest sentence.
pub(super) fn longest(sentences: &[Sentence]) -> usize {
    sentences.iter().map(|sentence| sentence.len).max().unwrap_or(0)
}

impl Sublayer for SelfAttention {
    fn forward(&self, x: &[f32], _memory: &[f32]) -> Result<Vec<f32>> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) = (packed(&self.qkv.weight)?, packed(&self.output.weight)?);
        let (inner_bias, outer_bias) = (host(&self.qkv.bias)?, host(&self.output.bias)?);
        let (width, all) = (self.residual.width, self.residual.layout.rows);
        let mut saved = Saved {
            qkv: Buffer::bf16(all, 3 * width),
            mixed: Buffer::bf16(all, width),
            log_sums: Buffer::f32(all * self.heads.count),
        };
        let (qkv, mixed) = (Shared::new(saved.qkv.as_bf16_mut()), Shared::new(saved.mixed.as_bf16_mut()));
        let log_sums = Shared::new(saved.log_sums.as_f32_mut());
        let write = |to: &Shared<f32>| {
            for_blocks(&self.residual.layout, |block| {
                let mut normal = Buffer::bf16(block.rows, width);
                let own = qkv.at(block.first * 3 * width);
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    let left = MatrixView::of(normal.as_bf16(), width);
                    project(left, block.rows, inner.as_lines(), steps(width), &inner_bias, own);
                    self.attend(block, MatrixView { at: own, stride: 3 * width }, &mixed, &log_sums);
                    let left = MatrixView { at: mixed.at(block.first * width), stride: width };
                    self.residual.add_branch(block, left, outer.as_lines(), steps(width), &outer_bias, x, to);
                }
            });
        };
        // SAFETY: every row with a token belongs to a block.
        let y = unsafe { self.residual.layout.batch(x.len(), width, write) };
        self.saved.save(saved);
        Ok(y)
    }

    fn backward(&self, x: &[f32], _memory: &[f32], dy: &[f32], _dmemory: &mut [f32]) -> Result<Vec<f32>> {
        let saved = self.saved.take()?;
        self.gradients(x, dy, &saved)
    }
}

/// `left · right + bias` as bf16, with one column for each bias.
///
/// # Safety
/// As [`wide`]; `out` must have memory for all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn project(
    left: MatrixView,
    rows: usize,
    right: &[super::Line],
    steps: usize,
    bias: &[f32],
    out: *mut u16,
) {
    let columns = bias.len();
    unsafe {
        wide(left, rows, right, (steps, columns), |row, column, sums| {
            let bias = &bias[column..][..SIDE];
            biased(sums, bias, f32::NEG_INFINITY, out.add(row * columns + column), columns);
        });
    }
}

/// `left · right` as bf16.
///
/// # Safety
/// As [`project`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn product(
    left: MatrixView,
    rows: usize,
    right: &[super::Line],
    (steps, columns): (usize, usize),
    out: *mut u16,
) {
    unsafe {
        wide(left, rows, right, (steps, columns), |row, column, sums| {
            rounded(sums, out.add(row * columns + column), columns, SIDE);
        });
    }
}

impl SelfAttention {
    /// The views of one head on a sentence, which starts at row `first` of its block's `qkv`.
    unsafe fn views(&self, qkv: MatrixView, first: usize, len: usize, head: usize) -> Views {
        let at =
            |part: usize| unsafe { qkv.from(first, part * self.residual.width + head * self.heads.width) };
        Views { query: at(0), key: at(1), value: at(2), queries: len, keys: len }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attend(&self, block: &Block, qkv: MatrixView, mixed: &Shared<u16>, log_sums: &Shared<f32>) {
        let (width, heads, layout) = (self.residual.width, self.heads, &self.residual.layout);
        let sentences = layout.of(block);
        let mut scratch = Scratch::new(longest(sentences), heads);
        let mut end = block.first;
        for &Sentence { first, len, .. } in sentences {
            for head in 0..heads.count {
                unsafe {
                    let views = self.views(qkv, first - block.first, len, head);
                    let sums = log_sums.part(head * layout.rows + first, len);
                    let out = mixed.at(first * width + head * heads.width);
                    heads.forward(views, out, width, sums, &mut scratch);
                }
            }
            end = first + len;
        }
        // SAFETY: these are the empty rows of the block.
        unsafe { mixed.part(end * width, (block.first + block.rows - end) * width).fill(0) }
    }

    /// The gradients of queries, keys and values of a block, given those of the result of attention.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attention_gradients(&self, block: &Block, saved: &Saved, dmixed: MatrixView, to: &mut [u16]) {
        let (width, heads, layout) = (self.residual.width, self.heads, &self.residual.layout);
        let qkv =
            MatrixView { at: saved.qkv.as_bf16()[block.first * 3 * width..].as_ptr(), stride: 3 * width };
        let sentences = layout.of(block);
        let mut scratch = Scratch::new(longest(sentences), heads);
        let mut end = 0;
        for &Sentence { first, len, .. } in sentences {
            let own = first - block.first;
            for head in 0..heads.count {
                let sums = &saved.log_sums.as_f32()[head * layout.rows + first..][..len];
                unsafe {
                    let views = self.views(qkv, own, len, head);
                    let grad = dmixed.from(own, head * heads.width);
                    let at = |part: usize| {
                        to.as_ptr().cast_mut().add((own * 3 + part) * width + head * heads.width)
                    };
                    let (query, key, value) = (at(0), at(1), at(2));
                    let stride = 3 * width;
                    let to = Gradients { query, query_stride: stride, key, value, source_stride: stride };
                    heads.backward(views, sums, grad, to, &mut scratch);
                }
            }
            end = own + len;
        }
        to[end * 3 * width..block.rows * 3 * width].fill(0);
    }

    fn gradients(&self, x: &[f32], dy: &[f32], saved: &Saved) -> Result<Vec<f32>> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) =
            (packed_for_backward(&self.qkv.weight)?, packed_for_backward(&self.output.weight)?);
        let (layout, width) = (&self.residual.layout, self.residual.width);
        let mut sums = Vec::new();
        let lines = |width: usize| Buffer::lines(layout.rows * width / SIDE);
        let (mut grads, mut branches, mut normals, mut mixed) =
            (lines(3 * width), lines(width), lines(width), lines(width));
        let places = [&mut grads, &mut branches, &mut normals, &mut mixed];
        let [grad_lines, branch_lines, normal_lines, mixed_lines] =
            places.map(|buffer| Shared::new(buffer.as_lines_mut()));
        let write = |to: &Shared<f32>| {
            sums = for_blocks(layout, |block| {
                let rows = block.rows;
                let (mut normal, mut branch) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let (mut dmixed, mut dqkv) = (Buffer::bf16(rows, width), Buffer::bf16(rows, 3 * width));
                let [mut dgain, mut dbias, mut douter] = [(); 3].map(|()| vec![0f32; width]);
                let mut dinner = vec![0f32; 3 * width];
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows and lines.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    self.residual.branch_gradient(block, dy, &mut douter, branch.as_bf16_mut());
                    let branch = MatrixView::of(branch.as_bf16(), width);
                    let out = dmixed.as_bf16_mut().as_mut_ptr();
                    product(branch, rows, outer.as_lines(), (steps(width), width), out);
                    let dmixed = MatrixView::of(dmixed.as_bf16(), width);
                    self.attention_gradients(block, saved, dmixed, dqkv.as_bf16_mut());
                    column_sums(dqkv.as_bf16().as_ptr(), rows, 3 * width, &mut dinner);
                    let dqkv = MatrixView::of(dqkv.as_bf16(), 3 * width);
                    let norm_sums = (&mut dgain[..], &mut dbias[..]);
                    let (right, steps_in) = (inner.as_lines(), steps(3 * width));
                    self.residual.input_gradient(block, dqkv, right, steps_in, norm, x, dy, to, norm_sums);
                    let (of, made) = (steps(rows), saved.mixed.as_bf16()[block.first * width..].as_ptr());
                    pack_left(dqkv, rows, of, 3 * width, grad_lines.block(block, 3 * width));
                    pack_left(branch, rows, of, width, branch_lines.block(block, width));
                    pack_right(
                        MatrixView::of(normal.as_bf16(), width),
                        rows,
                        of,
                        width,
                        normal_lines.block(block, width),
                    );
                    pack_right(
                        MatrixView { at: made, stride: width },
                        rows,
                        of,
                        width,
                        mixed_lines.block(block, width),
                    );
                }
                [dgain, dbias, dinner, douter]
            });
        };
        // SAFETY: every row with a token belongs to a block.
        let dx = unsafe { layout.batch(x.len(), width, write) };
        self.residual.add_small_gradients(&sums, &self.qkv.bias, &self.output.bias)?;
        let operand = |buffer, width| Packed { lines: Buffer::as_lines(buffer), width };
        add_weight_gradient(
            layout,
            operand(&grads, 3 * width),
            operand(&normals, width),
            false,
            &self.qkv.weight,
        )?;
        add_weight_gradient(
            layout,
            operand(&branches, width),
            operand(&mixed, width),
            false,
            &self.output.weight,
        )?;
        Ok(dx)
    }
}
