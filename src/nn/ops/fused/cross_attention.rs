//! The cross-attention sublayer: `x + dropout(W_o · attention(W_q · norm(x) + b_q, keys, values) + b_o)`.

use candle_core::{Result, Tensor, bail};

use super::super::cpu::with_values;
use super::super::flop_count;
use super::super::gradients::add_to;
use super::super::types::AttentionMask;
use super::attention::{Gradients, Heads, Scratch, Views};
use super::buffer::Buffer;
use super::chain::Sublayer;
use super::layout::{Block, Layout, Sentence};
use super::pass::{Packed, add_weight_gradient, for_blocks, narrow, normalise, packed, packed_for_backward};
use super::rows::{Norm, column_sums, round};
use super::self_attention::{longest, product, project};
use super::shared::Shared;
use super::sublayer::{PreNormResidual, SavedForBackward, host, steps};
use super::tile::{MatrixView, SIDE, pack_left, pack_right};
use super::{Affine, Frame};

/// What cross-attention reads of the source.
pub enum Source {
    /// The memory of the chain, `[rows, source, width]`; this map makes keys and values of it, side by side.
    Memory(Affine),
    /// Keys and values, `[rows, source, 2 · width]`. Their gradient is not computed.
    KeysValues(Tensor),
}

/// See the module. Row `i` of the source has `lengths[i]` real positions of `padded` ones.
pub fn cross_attention(
    x: &Tensor,
    source: Source,
    (lengths, padded): (&[usize], usize),
    frame: &Frame,
    query: Affine,
    output: Affine,
    heads: usize,
) -> Result<Box<dyn Sublayer>> {
    let residual = PreNormResidual::new(x, frame)?;
    let width = residual.width;
    if lengths.len() != x.dim(0)? || lengths.iter().any(|&l| l == 0 || l > padded) {
        bail!("attention: sources of {lengths:?} tokens do not fit {:?} and {padded} positions", x.shape());
    }
    residual.count(x, &query)?;
    residual.count(x, &output)?;
    let sources = Layout::new(lengths, padded);
    match &source {
        Source::Memory(map) => flop_count::count_rows(sources.real, x.track_op(), &map.weight)?,
        Source::KeysValues(values) if values.dims() != [lengths.len(), padded, 2 * width] => {
            bail!("attention: keys and values have shape {:?}", values.shape())
        }
        Source::KeysValues(values) if values.track_op() => bail!("attention: keys and values need gradients"),
        Source::KeysValues(_) => {}
    }
    let heads = Heads { count: heads, width: width / heads, mask: AttentionMask::Whole };
    let saved = SavedForBackward::empty();
    let positions = lengths.len() * padded;
    Ok(Box::new(CrossAttention { residual, source, sources, positions, query, output, heads, saved }))
}

struct CrossAttention {
    residual: PreNormResidual,
    source: Source,
    sources: Layout,
    /// Number of positions of all sources, padding included.
    positions: usize,
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

impl Sublayer for CrossAttention {
    fn forward(&self, x: &[f32], memory: &[f32]) -> Result<Vec<f32>> {
        let (gain, bias) = self.residual.norm_values()?;
        let norm = Norm { gain: &gain, bias: &bias, eps: self.residual.eps };
        let (inner, outer) = (packed(&self.query.weight)?, packed(&self.output.weight)?);
        let (inner_bias, outer_bias) = (host(&self.query.bias)?, host(&self.output.bias)?);
        let (width, all) = (self.residual.width, self.residual.layout.rows);
        let mut saved = Saved {
            query: Buffer::bf16(all, width),
            source: self.keys_values(memory)?,
            mixed: Buffer::bf16(all, width),
            log_sums: Buffer::f32(all * self.heads.count),
        };
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
        Ok(y)
    }

    fn backward(&self, x: &[f32], memory: &[f32], dy: &[f32], dmemory: &mut [f32]) -> Result<Vec<f32>> {
        let saved = self.saved.take()?;
        let (dx, dsource) = self.gradients(x, dy, &saved)?;
        if let Source::Memory(map) = &self.source {
            self.add_source_gradients(map, memory, dsource, dmemory)?;
        }
        Ok(dx)
    }
}

impl CrossAttention {
    /// Keys and values of all sources side by side, bf16, row by row.
    fn keys_values(&self, memory: &[f32]) -> Result<Buffer> {
        let width = self.residual.width;
        let mut made = Buffer::bf16(self.sources.rows, 2 * width);
        let to = Shared::new(made.as_bf16_mut());
        match &self.source {
            Source::Memory(_) if memory.len() != self.positions * width => {
                bail!("attention: a memory of {} values is not {} rows", memory.len(), self.positions)
            }
            Source::Memory(map) => {
                let (weight, bias) = (packed(&map.weight)?, host(&map.bias)?);
                for_blocks(&self.sources, |block| {
                    let own = self.rounded(block, memory, width);
                    let left = MatrixView::of(own.as_bf16(), width);
                    let to = to.at(block.first * 2 * width);
                    // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows.
                    unsafe { project(left, block.rows, weight.as_lines(), steps(width), &bias, to) }
                });
            }
            Source::KeysValues(values) => with_values(values, |values| {
                for_blocks(&self.sources, |block| {
                    let own = self.rounded(block, values, 2 * width);
                    let count = block.rows * 2 * width;
                    // SAFETY: blocks have separate rows.
                    unsafe { to.part(block.first * 2 * width, count) }
                        .copy_from_slice(&own.as_bf16()[..count]);
                });
            })?,
        }
        Ok(made)
    }

    /// The rows of a block of sources, of `width` values, as bf16; empty rows are zeros.
    fn rounded(&self, block: &Block, values: &[f32], width: usize) -> Buffer {
        let mut rows = Buffer::bf16(block.rows, width);
        let padded = &self.sources.padded[block.first..][..block.rows];
        for (padded, out) in padded.iter().zip(rows.as_bf16_mut().chunks_exact_mut(width)) {
            match padded {
                // SAFETY: the CPU has the features (see the module `fused`).
                Some(row) => unsafe { round(&values[*row as usize * width..][..width], out) },
                None => out.fill(0),
            }
        }
        rows
    }

    /// Adds the gradients of the memory and of the map from it, given that of keys and values.
    fn add_source_gradients(
        &self,
        map: &Affine,
        memory: &[f32],
        mut dsource: Buffer,
        dmemory: &mut [f32],
    ) -> Result<()> {
        let (sources, width) = (&self.sources, self.residual.width);
        let right = packed_for_backward(&map.weight)?;
        let mut grads = Buffer::lines(sources.rows * 2 * width / SIDE);
        let mut rows = Buffer::lines(sources.rows * width / SIDE);
        let (grad_lines, row_lines) = (Shared::new(grads.as_lines_mut()), Shared::new(rows.as_lines_mut()));
        let (dsource, dmemory) = (Shared::new(dsource.as_bf16_mut()), Shared::new(dmemory));
        let sums = for_blocks(sources, |block| {
            let own = self.rounded(block, memory, width);
            let padded = &sources.padded[block.first..][..block.rows];
            let mut sums = vec![0f32; 2 * width];
            // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows and lines.
            unsafe {
                let values = dsource.part(block.first * 2 * width, block.rows * 2 * width);
                for (padded, values) in padded.iter().zip(values.chunks_exact_mut(2 * width)) {
                    if padded.is_none() {
                        values.fill(0);
                    }
                }
                column_sums(values.as_ptr(), block.rows, 2 * width, &mut sums);
                let dsource = MatrixView::of(values, 2 * width);
                narrow(dsource, block.rows, right.as_lines(), (steps(2 * width), width), |row, sums| {
                    if let Some(at) = padded[row] {
                        let to = dmemory.part(at as usize * width, width);
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                    }
                });
                let (of, left) = (steps(block.rows), grad_lines.block(block, 2 * width));
                pack_left(dsource, block.rows, of, 2 * width, left);
                let own = MatrixView::of(own.as_bf16(), width);
                pack_right(own, block.rows, of, width, row_lines.block(block, width));
            }
            sums
        });
        add_to(&map.bias, |to| {
            for part in &sums {
                to.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        })?;
        let grads = Packed { lines: grads.as_lines(), width: 2 * width };
        let rows = Packed { lines: rows.as_lines(), width };
        add_weight_gradient(sources, grads, rows, false, &map.weight)
    }

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
    fn sources_of(&self, block: &Block) -> &[Sentence] {
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
        let mut scratch = Scratch::new(longest(self.sources_of(block)), heads);
        let mut end = block.first;
        for (&Sentence { first, len, .. }, source) in layout.of(block).iter().zip(self.sources_of(block)) {
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
        let mut scratch = Scratch::new(longest(self.sources_of(block)), heads);
        let mut end = 0;
        for (&Sentence { first, len, .. }, source) in layout.of(block).iter().zip(self.sources_of(block)) {
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
