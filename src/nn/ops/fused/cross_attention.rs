//! The cross-attention sublayer: `x + dropout(W_o · attention(W_q · norm(x) + b_q, keys, values) + b_o)`.

use candle_core::{CpuStorage, CustomOp2, Layout as TensorLayout, Result, Shape, Tensor, bail};

use super::super::AttentionMask;
use super::super::cpu::{values, with_values};
use super::attention::{Gradients, Heads, Scratch, Views};
use super::buffer::Buffer;
use super::layout::{Block, Layout, Sentence};
use super::pass::{Packed, Shared, add_weight_gradient, for_blocks, normalise, packed, packed_across};
use super::rows::{Norm, column_sums, load, round};
use super::self_attention::{longest, product, project};
use super::sublayer::{ForBackward, Outline, host, steps};
use super::tile::{Rows, SIDE, pack_left, pack_right};
use super::{Affine, Frame};

/// See the module. `keys_values [rows, source, 2 · width]`, of which row `i` has `source_lengths[i]` real positions.
pub fn cross_attention(
    x: &Tensor,
    keys_values: &Tensor,
    source_lengths: &[usize],
    frame: &Frame,
    query: Affine,
    output: Affine,
    heads: usize,
) -> Result<Tensor> {
    let outline = Outline::new(x, frame)?;
    let (rows, source, double) = keys_values.dims3()?;
    let fit = source_lengths.len() == rows && source_lengths.iter().all(|&l| l > 0 && l <= source);
    if !fit || rows != x.dim(0)? || double != 2 * outline.width {
        bail!("attention: {:?} does not fit {:?}", x.shape(), keys_values.shape());
    }
    outline.count(x, &query)?;
    outline.count(x, &output)?;
    let heads = Heads { count: heads, width: outline.width / heads, mask: AttentionMask::Whole };
    let sources = Layout::new(source_lengths, source);
    let op = CrossAttention { outline, sources, query, output, heads, kept: ForBackward::nothing() };
    x.contiguous()?.apply_op2(&keys_values.contiguous()?, op)
}

struct CrossAttention {
    outline: Outline,
    sources: Layout,
    query: Affine,
    output: Affine,
    heads: Heads,
    kept: ForBackward<Kept>,
}

/// Of the forward pass, for the backward one.
struct Kept {
    /// bf16, row by row: queries, keys and values side by side, and what attention made of them.
    query: Buffer,
    source: Buffer,
    mixed: Buffer,
    /// f32, head by head.
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
        let (gain, bias) = self.outline.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.outline.eps };
        let (inner, outer) = (packed(&self.query.weight)?, packed(&self.output.weight)?);
        let (inner_bias, outer_bias) = (host(&self.query.bias)?, host(&self.output.bias)?);
        let (width, all) = (self.outline.width, self.outline.layout.rows);
        let mut kept = Kept {
            query: Buffer::bf16(all, width),
            source: Buffer::bf16(self.sources.rows, 2 * width),
            mixed: Buffer::bf16(all, width),
            log_sums: Buffer::f32(all * self.heads.count),
        };
        let source = kept.source.as_bf16_mut();
        for (padded, out) in self.sources.padded.iter().zip(source.chunks_exact_mut(2 * width)) {
            match padded {
                // SAFETY: whoever made this has asked for the features.
                Some(row) => unsafe { round(&keys_values[*row as usize * 2 * width..][..2 * width], out) },
                None => out.fill(0),
            }
        }
        let source = Shared::new(kept.source.as_bf16_mut());
        let (query, mixed) = (Shared::new(kept.query.as_bf16_mut()), Shared::new(kept.mixed.as_bf16_mut()));
        let log_sums = Shared::new(kept.log_sums.as_f32_mut());
        let write = |to: &Shared<f32>| {
            for_blocks(&self.outline.layout, |block| {
                let mut normal = Buffer::bf16(block.rows, width);
                let own = query.at(block.first * width);
                let source = Rows { at: source.at(0), stride: 2 * width };
                // SAFETY: whoever made this has asked for the features; each block has rows of its own.
                unsafe {
                    normalise(x, self.outline.padded(block), norm, normal.as_bf16_mut());
                    let left = Rows::of(normal.as_bf16(), width);
                    project(left, block.rows, inner.as_lines(), steps(width), &inner_bias, own);
                    let own = Rows { at: own, stride: width };
                    self.attend(block, own, source, &mixed, &log_sums);
                    let left = Rows { at: mixed.at(block.first * width), stride: width };
                    self.outline.close(block, left, outer.as_lines(), steps(width), &outer_bias, x, to);
                }
            });
        };
        // SAFETY: each row of a sentence is in a block.
        let y = unsafe { self.outline.layout.batch(x.len(), width, write) };
        self.kept.keep(kept);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        keys_values: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kept = self.kept.take()?;
        let (dx, dsource) = with_values(x, |x| with_values(grad, |dy| self.slopes(x, dy, &kept)))???;
        let dsource = if keys_values.track_op() {
            let width = 2 * self.outline.width;
            let mut all = vec![0f32; keys_values.elem_count()];
            for (padded, own) in self.sources.padded.iter().zip(dsource.as_bf16().chunks_exact(width)) {
                if let Some(row) = padded {
                    // SAFETY: whoever made this has asked for the features.
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
    /// The head's views of a sentence: row `query` of the queries, row `source` of keys and values.
    unsafe fn views(
        &self,
        (queries, query, len): (Rows, usize, usize),
        (sources, source): (Rows, &Sentence),
        head: usize,
    ) -> Views {
        let column = head * self.heads.width;
        unsafe {
            Views {
                query: queries.from(query, column),
                key: sources.from(source.first, column),
                value: sources.from(source.first, self.outline.width + column),
                queries: len,
                keys: source.len,
            }
        }
    }

    /// What the sentences of a block read.
    fn sources(&self, block: &Block) -> &[Sentence] {
        &self.sources.sentences[block.sentences.clone()]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attend(
        &self,
        block: &Block,
        queries: Rows,
        sources: Rows,
        mixed: &Shared<u16>,
        log_sums: &Shared<f32>,
    ) {
        let (width, heads, layout) = (self.outline.width, self.heads, &self.outline.layout);
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
        // SAFETY: the rows of the block that are empty.
        unsafe { mixed.part(end * width, (block.first + block.rows - end) * width).fill(0) }
    }

    /// The gradients of the queries of a block, and of keys and values of its sentences.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn attend_slopes(
        &self,
        block: &Block,
        kept: &Kept,
        dmixed: Rows,
        to: &mut [u16],
        to_source: &Shared<u16>,
    ) {
        let (width, heads, layout) = (self.outline.width, self.heads, &self.outline.layout);
        let queries = Rows { at: kept.query.as_bf16()[block.first * width..].as_ptr(), stride: width };
        let sources = Rows::of(kept.source.as_bf16(), 2 * width);
        let mut scratch = Scratch::new(longest(self.sources(block)), heads);
        let mut end = 0;
        for (&Sentence { first, len, .. }, source) in layout.of(block).iter().zip(self.sources(block)) {
            let own = first - block.first;
            for head in 0..heads.count {
                let sums = &kept.log_sums.as_f32()[head * layout.rows + first..][..len];
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
    fn slopes(&self, x: &[f32], dy: &[f32], kept: &Kept) -> Result<(Vec<f32>, Buffer)> {
        let (gain, bias) = self.outline.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.outline.eps };
        let (inner, outer) = (packed_across(&self.query.weight)?, packed_across(&self.output.weight)?);
        let (layout, width) = (&self.outline.layout, self.outline.width);
        let mut sums = Vec::new();
        let mut dsource = Buffer::bf16(self.sources.rows, 2 * width);
        let mut operands = [(); 4].map(|()| Buffer::lines(layout.rows * width / SIDE));
        let to_source = Shared::new(dsource.as_bf16_mut());
        let [slope_lines, branch_lines, normal_lines, mixed_lines] =
            operands.each_mut().map(|buffer| Shared::new(buffer.as_lines_mut()));
        let write = |to: &Shared<f32>| {
            sums = for_blocks(layout, |block| {
                let rows = block.rows;
                let (mut normal, mut branch) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let (mut dmixed, mut dquery) = (Buffer::bf16(rows, width), Buffer::bf16(rows, width));
                let [mut dgain, mut dbias, mut dinner, mut douter] = [(); 4].map(|()| vec![0f32; width]);
                // SAFETY: whoever made this has asked for the features; each block has rows and lines of its own.
                unsafe {
                    normalise(x, self.outline.padded(block), norm, normal.as_bf16_mut());
                    self.outline.branch_slopes(block, dy, &mut douter, branch.as_bf16_mut());
                    let branch = Rows::of(branch.as_bf16(), width);
                    let out = dmixed.as_bf16_mut().as_mut_ptr();
                    product(branch, rows, outer.as_lines(), (steps(width), width), out);
                    let dmixed = Rows::of(dmixed.as_bf16(), width);
                    self.attend_slopes(block, kept, dmixed, dquery.as_bf16_mut(), &to_source);
                    column_sums(dquery.as_bf16().as_ptr(), rows, width, &mut dinner);
                    let dquery = Rows::of(dquery.as_bf16(), width);
                    let norm_sums = (&mut dgain[..], &mut dbias[..]);
                    let (right, of) = (inner.as_lines(), steps(width));
                    self.outline.open_slopes(block, dquery, right, of, norm, x, dy, to, norm_sums);
                    let (of, made) = (steps(rows), kept.mixed.as_bf16()[block.first * width..].as_ptr());
                    pack_left(dquery, rows, of, width, slope_lines.block(block, width));
                    pack_left(branch, rows, of, width, branch_lines.block(block, width));
                    pack_right(
                        Rows::of(normal.as_bf16(), width),
                        rows,
                        of,
                        width,
                        normal_lines.block(block, width),
                    );
                    pack_right(
                        Rows { at: made, stride: width },
                        rows,
                        of,
                        width,
                        mixed_lines.block(block, width),
                    );
                }
                [dgain, dbias, dinner, douter]
            });
        };
        // SAFETY: each row of a sentence is in a block.
        let dx = unsafe { layout.batch(x.len(), width, write) };
        self.outline.add_small_gradients(&sums, &self.query.bias, &self.output.bias)?;
        let [slopes, branches, normals, mixed] =
            operands.each_ref().map(|buffer| Packed { lines: buffer.as_lines(), width });
        add_weight_gradient(layout, slopes, normals, false, &self.query.weight)?;
        add_weight_gradient(layout, branches, mixed, false, &self.output.weight)?;
        Ok((dx, dsource))
    }
}
