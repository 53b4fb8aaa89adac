//! The cross-attention sublayer: `x + dropout(W_o · attention(W_q · norm(x) + b_q, keys, values) + b_o)`.

use candle_core::{CpuStorage, CustomOp2, Layout as TensorLayout, Result, Shape, Tensor, bail};

use super::super::cpu::{values, with_values};
use super::super::types::AttentionMask;
use super::attention::{Gradients, Heads, Scratch, Views};
use super::buffer::Buffer;
use super::layout::{Block, Layout, Sentence};
use super::pass::{Packed, add_weight_gradient, for_blocks, normalise, packed, packed_for_backward};
use super::rows::{Norm, column_sums, load, round};
use super::self_attention::{longest, product, project};
use super::shared::Shared;
use super::sublayer::{PreNormResidual, SavedForBackward, host, steps};
use super::tile::{MatrixView, SIDE, pack_left, pack_right};
use super::{Affine, Frame};

/// See the module. `keys_values` is `[rows, source, 2 · width]`; row `i` has `source_lengths[i]` real positions.
pub fn cross_attention(
    x: &Tensor,
    keys_values: &Tensor,
    source_lengths: &[usize],
    frame: &Frame,
    query: Affine,
    output: Affine,
    heads: usize,
) -> Result<Tensor> {
    let residual = PreNormResidual::new(x, frame)?;
    let (rows, source, double) = keys_values.dims3()?;
    let fit = source_lengths.len() == rows && source_lengths.iter().all(|&l| l > 0 && l <= source);
    if !fit || rows != x.dim(0)? || double != 2 * residual.width {
        bail!("attention: {:?} does not fit {:?}", x.shape(), keys_values.shape());
    }
    residual.count(x, &query)?;
    residual.count(x, &output)?;
    let heads = Heads { count: heads, width: residual.width / heads, mask: AttentionMask::Whole };
    let sources = Layout::new(source_lengths, source);
    let op = CrossAttention { residual, sources, query, output, heads, saved: SavedForBackward::empty() };
    x.contiguous()?.apply_op2(&keys_values.contiguous()?, op)
}

struct CrossAttention {
    residual: PreNormResidual,
    sources: Layout,
    query: Affine,
    output: Affine,
    heads: Heads,
    saved: SavedForBackward<Saved>,
}

/// Values of the forward pass that the backward pass needs.
struct Saved {
    /// bf16, row by row: queries; keys and values side by side; the result of attention.
    query: Buffer,
    source: Buffer,
    mixed: Buffer,
    /// Logarithms of the softmax's sums, f32, head by head.
    log_sums: Buffer,
}

impl CustomOp2 for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention-sublayer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &TensorLayout,
        keys_values: &CpuStorage,
        keys_values_layout: &TensorLayout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let keys_values = values(keys_values, keys_values_layout)?;
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) = (packed(&self.query.weight)?, packed(&self.output.weight)?);
        let (inner_bias, outer_bias) = (host(&self.query.bias)?, host(&self.output.bias)?);
        let (width, all) = (self.residual.width, self.residual.layout.rows);
        let mut saved = Saved {
            query: Buffer::bf16(all, width),
            source: Buffer::bf16(self.sources.rows, 2 * width),
            mixed: Buffer::bf16(all, width),
            log_sums: Buffer::f32(all * self.heads.count),
        };
        let source = saved.source.as_bf16_mut();
        for (padded, out) in self.sources.padded.iter().zip(source.chunks_exact_mut(2 * width)) {
            match padded {
                // SAFETY: the CPU has the features (see the module `fused`).
                Some(row) => unsafe { round(&keys_values[*row as usize * 2 * width..][..2 * width], out) },
                None => out.fill(0),
            }
        }
        let source = Shared::new(saved.source.as_bf16_mut());
        let (query, mixed) = (Shared::new(saved.query.as_bf16_mut()), Shared::new(saved.mixed.as_bf16_mut()));
        let log_sums = Shared::new(saved.log_sums.as_f32_mut());
        let write = |to: &Shared<f32>| {
            for_blocks(&self.residual.layout, |block| {
                let mut normal = Buffer::bf16(block.rows, width);
                let own = query.at(block.first * width);
                let source = MatrixView { at: source.at(0), stride: 2 * width };
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    let left = MatrixView::of(normal.as_bf16(), width);
                    project(left, block.rows, inner.as_lines(), steps(width), &inner_bias, own);
                    let own = MatrixView { at: own, stride: width };
                    self.attend(block, own, source, &mixed, &log_sums);
                    let left = MatrixView { at: mixed.at(block.first * width), stride: width };
                    self.residual.add_branch(block, left, outer.as_lines(), steps(width), &outer_bias, x, to);
                }
            });
        };
        // SAFETY: every row with a token belongs to a block.
        let y = unsafe { self.residual.layout.batch(x.len(), width, write) };
        self.saved.save(saved);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        keys_values: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved.take()?;
        let (dx, dsource) = with_values(x, |x| with_values(grad, |dy| self.gradients(x, dy, &saved)))???;
        let dsource = if keys_values.track_op() {
            let width = 2 * self.residual.width;
            let mut all = vec![0f32; keys_values.elem_count()];
            for (padded, own) in self.sources.padded.iter().zip(dsource.as_bf16().chunks_exact(width)) {
                if let Some(row) = padded {
                    // SAFETY: the CPU has the features (see the module `fused`).
                    unsafe { widen(own, &mut all[*row as usize * width..][..width]) }
                }
            }
            Some(Tensor::from_vec(all, keys_values.shape(), keys_values.device())?)
        } else {
            None
        };
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), dsource))
    }
}

/// bf16 values as f32.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn widen(values: &[u16], out: &mut [f32]) {
    use std::arch::x86_64::_mm512_storeu_ps;
    for (values, out) in values.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
        // SAFETY: both have 16 values.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), load(values.as_ptr())) }
    }
}

impl CrossAttention {
    /// The views of one head on a sentence, whose queries start at row `query`.
    unsafe fn views(
        &self,
        (queries, query, len): (MatrixView, usize, usize),
        (sources, source): (MatrixView, &Sentence),
        head: usize,
    ) -> Views {
        let column = head * self.heads.width;
        unsafe {
            Views {
                query: queries.from(query, column),
                key: sources.from(source.first, column),
                value: sources.from(source.first, self.residual.width + column),
                queries: len,
                keys: source.len,
            }
        }
    }

    /// The sources of the sentences of a block.
    fn sources(&self, block: &Block) -> &[Sentence] {
        &self.sources.sentences[block.sentences.clone()]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attend(
        &self,
        block: &Block,
        queries: MatrixView,
        sources: MatrixView,
        mixed: &Shared<u16>,
        log_sums: &Shared<f32>,
    ) {
        let (width, heads, layout) = (self.residual.width, self.heads, &self.residual.layout);
        let mut scratch = Scratch::new(longest(self.sources(block)), heads);
        let mut end = block.first;
        for (&Sentence { first, len, .. }, source) in layout.of(block).iter().zip(self.sources(block)) {
            for head in 0..heads.count {
                unsafe {
                    let views = self.views((queries, first - block.first, len), (sources, source), head);
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

    /// The gradients of the queries of a block, and of keys and values of its sentences.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attention_gradients(
        &self,
        block: &Block,
        saved: &Saved,
        dmixed: MatrixView,
        to: &mut [u16],
        to_source: &Shared<u16>,
    ) {
        let (width, heads, layout) = (self.residual.width, self.heads, &self.residual.layout);
        let queries = MatrixView { at: saved.query.as_bf16()[block.first * width..].as_ptr(), stride: width };
        let sources = MatrixView::of(saved.source.as_bf16(), 2 * width);
        let mut scratch = Scratch::new(longest(self.sources(block)), heads);
        let mut end = 0;
        for (&Sentence { first, len, .. }, source) in layout.of(block).iter().zip(self.sources(block)) {
            let own = first - block.first;
            for head in 0..heads.count {
                let sums = &saved.log_sums.as_f32()[head * layout.rows + first..][..len];
                let column = head * heads.width;
                let at = source.first * 2 * width + column;
                let to = Gradients {
                    query: to[own * width + column..].as_mut_ptr(),
                    query_stride: width,
                    key: to_source.at(at),
                    value: to_source.at(at + width),
                    source_stride: 2 * width,
                };
                unsafe {
                    let views = self.views((queries, own, len), (sources, source), head);
                    heads.backward(views, sums, dmixed.from(own, column), to, &mut scratch);
                }
            }
            end = own + len;
        }
        to[end * width..block.rows * width].fill(0);
    }

    /// The gradients of `x` and, in bf16, of the source's rows.
    fn gradients(&self, x: &[f32], dy: &[f32], saved: &Saved) -> Result<(Vec<f32>, Buffer)> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) =
            (packed_for_backward(&self.query.weight)?, packed_for_backward(&self.output.weight)?);
        let (layout, width) = (&self.residual.layout, self.residual.width);
        let mut sums = Vec::new();
        let mut dsource = Buffer::bf16(self.sources.rows, 2 * width);
        let mut operands = [(); 4].map(|()| Buffer::lines(layout.rows * width / SIDE));
        let to_source = Shared::new(dsource.as_bf16_mut());
        let [grad_lines, branch_lines, normal_lines, mixed_lines] =
            operands.each_mut().map(|buffer| Shared::new(buffer.as_lines_mut()));
        let write = |to: &Shared<f32>| {
            sums = for_blocks(layout, |block| {
                let rows = block.rows;
                let (mut normal, mut branch) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let (mut dmixed, mut dquery) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let [mut dgain, mut dbias, mut dinner, mut douter] = [(); 4].map(|()| vec![0f32; width]);
                // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows and lines.
                unsafe {
                    normalise(x, self.residual.padded(block), norm, normal.as_bf16_mut());
                    self.residual.branch_gradient(block, dy, &mut douter, branch.as_bf16_mut());
                    let branch = MatrixView::of(branch.as_bf16(), width);
                    let out = dmixed.as_bf16_mut().as_mut_ptr();
                    product(branch, rows, outer.as_lines(), (steps(width), width), out);
                    let dmixed = MatrixView::of(dmixed.as_bf16(), width);
                    self.attention_gradients(block, saved, dmixed, dquery.as_bf16_mut(), &to_source);
                    column_sums(dquery.as_bf16().as_ptr(), rows, width, &mut dinner);
                    let dquery = MatrixView::of(dquery.as_bf16(), width);
                    let norm_sums = (&mut dgain[..], &mut dbias[..]);
                    let (right, of) = (inner.as_lines(), steps(width));
                    self.residual.input_gradient(block, dquery, right, of, norm, x, dy, to, norm_sums);
                    let (of, made) = (steps(rows), saved.mixed.as_bf16()[block.first * width..].as_ptr());
                    pack_left(dquery, rows, of, width, grad_lines.block(block, width));
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
        self.residual.add_small_gradients(&sums, &self.query.bias, &self.output.bias)?;
        let [grads, branches, normals, mixed] =
            operands.each_ref().map(|buffer| Packed { lines: buffer.as_lines(), width });
        add_weight_gradient(layout, grads, normals, false, &self.query.weight)?;
        add_weight_gradient(layout, branches, mixed, false, &self.output.weight)?;
        Ok((dx, dsource))
    }
}
