//! The products of [`super::super::linear`] with tiles.

use super::buffer::Buffer;
use super::layout::Layout;
use super::pass::{Packed, for_blocks, narrow, pack, weight_gradient};
use super::rows::round;
use super::shared::Shared;
use super::sublayer::steps;
use super::tile::{MatrixView, SIDE, pack_left, pack_right};

/// The weight `[out, in]` of an affine map.
#[derive(Clone, Copy)]
pub(in super::super) struct Map<'a> {
    pub weight: &'a [f32],
    pub input: usize,
    pub out: usize,
}

impl Map<'_> {
    /// `max(x · Wᵀ + bias, least)`.
    pub fn forward(self, x: &[f32], bias: &[f32], least: f32) -> Vec<f32> {
        let Self { weight, input, out } = self;
        let layout = Layout::of_rows(x.len() / input);
        let mut y = vec![0f32; layout.real * out];
        let (right, to) = (pack(weight, input, true, out, input), Shared::new(&mut y));
        for_blocks(&layout, |block| {
            let (rows, x) = rounded(x, input, block.first, block.rows, layout.real);
            // SAFETY: the CPU has the features (see the module `fused`); blocks have separate rows.
            unsafe {
                let left = MatrixView::of(x.as_bf16(), input);
                narrow(
                    left,
                    rows.next_multiple_of(SIDE),
                    right.as_lines(),
                    (steps(input), out),
                    |row, sums| {
                        if row < rows {
                            let y = to.part((block.first + row) * out, out);
                            for ((y, &sum), &bias) in y.iter_mut().zip(sums).zip(bias) {
                                let v = sum + bias;
                                *y = if v < least { least } else { v }; // NaN passes
                            }
                        }
                    },
                );
            }
        });
        y
    }

    /// The gradient of `x`, if `wants_dx` is set, and that of the weight, if `x` is given.
    pub fn backward(
        self,
        x: Option<&[f32]>,
        dy: &[f32],
        wants_dx: bool,
    ) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let Self { weight, input, out } = self;
        let layout = Layout::of_rows(dy.len() / out);
        let mut dx = vec![0f32; if wants_dx { layout.real * input } else { 0 }];
        let for_dx = wants_dx.then(|| pack(weight, input, false, input, out));
        let to = Shared::new(&mut dx);
        let (mut grads, mut rows) =
            (Buffer::lines(layout.rows * out / SIDE), Buffer::lines(layout.rows * input / SIDE));
        let (grad_lines, row_lines) = (Shared::new(grads.as_lines_mut()), Shared::new(rows.as_lines_mut()));
        for_blocks(&layout, |block| {
            let (count, dy) = rounded(dy, out, block.first, block.rows, layout.real);
            let dy = MatrixView::of(dy.as_bf16(), out);
            // SAFETY: as above; blocks have separate rows and lines.
            unsafe {
                if let Some(for_dx) = &for_dx {
                    narrow(dy, block.rows, for_dx.as_lines(), (steps(out), input), |row, sums| {
                        if row < count {
                            to.part((block.first + row) * input, input).copy_from_slice(sums);
                        }
                    });
                }
                if let Some(x) = x {
                    let (_, x) = rounded(x, input, block.first, block.rows, layout.real);
                    let (of, x) = (steps(block.rows), MatrixView::of(x.as_bf16(), input));
                    pack_left(dy, count, of, out, grad_lines.block(block, out));
                    pack_right(x, count, of, input, row_lines.block(block, input));
                }
            }
        });
        let dweight = x.map(|_| {
            let mut dweight = vec![0f32; weight.len()];
            let grads = Packed { lines: grads.as_lines(), width: out };
            let rows = Packed { lines: rows.as_lines(), width: input };
            // SAFETY: `dweight` has a value for each weight.
            unsafe { weight_gradient(&layout, grads, rows, false, dweight.as_mut_ptr(), true) };
            dweight
        });
        (wants_dx.then_some(dx), dweight)
    }
}

/// Rows `first..first + count` of `x [all, width]` as bf16, and how many of them exist.
fn rounded(x: &[f32], width: usize, first: usize, count: usize, all: usize) -> (usize, Buffer) {
    let real = count.min(all - first);
    let mut rows = Buffer::bf16(count, width);
    // SAFETY: the CPU has the features (see the module `fused`).
    unsafe { round(&x[first * width..][..real * width], &mut rows.as_bf16_mut()[..real * width]) }
    (real, rows)
}
