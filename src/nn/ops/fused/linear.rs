//! The products of [`super::super::linear`] by tiles.

use super::buffer::Buffer;
use super::layout::Layout;
use super::pass::{Packed, Shared, for_blocks, narrow, pack, weight_gradient};
use super::rows::round;
use super::sublayer::steps;
use super::tile::{Rows, SIDE, pack_left, pack_right};

/// An affine map `[out, in]` of so many rows.
#[derive(Clone, Copy)]
pub(in super::super) struct Map<'a> {
    pub weight: &'a [f32],
    pub input: usize,
    pub out: usize,
}

impl Map<'_> {
    /// `max(x · Wᵀ + bias, least)`. For whoever has asked for the features.
    pub fn forward(self, x: &[f32], bias: &[f32], least: f32) -> Vec<f32> {
        let Self { weight, input, out } = self;
        let layout = Layout::of_rows(x.len() / input);
        let mut y = vec![0f32; layout.real * out];
        let (right, to) = (pack(weight, input, true, out, input), Shared::new(&mut y));
        for_blocks(&layout, |block| {
            let (rows, x) = rounded(x, input, block.first, block.rows, layout.real);
            // SAFETY: as this function says; each block has rows of its own.
            unsafe {
                let left = Rows::of(x.as_bf16(), input);
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

    /// The gradients of `x` and of the weight.
    pub fn backward(
        self,
        x: Option<&[f32]>,
        dy: &[f32],
        wants_dx: bool,
    ) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let Self { weight, input, out } = self;
        let layout = Layout::of_rows(dy.len() / out);
        let mut dx = vec![0f32; if wants_dx { layout.real * input } else { 0 }];
        let across = wants_dx.then(|| pack(weight, input, false, input, out));
        let to = Shared::new(&mut dx);
        let (mut slopes, mut rows) =
            (Buffer::lines(layout.rows * out / SIDE), Buffer::lines(layout.rows * input / SIDE));
        let (slope_lines, row_lines) = (Shared::new(slopes.as_lines_mut()), Shared::new(rows.as_lines_mut()));
        for_blocks(&layout, |block| {
            let (count, dy) = rounded(dy, out, block.first, block.rows, layout.real);
            let dy = Rows::of(dy.as_bf16(), out);
            // SAFETY: as above; each block has rows and lines of its own.
            unsafe {
                if let Some(across) = &across {
                    narrow(dy, block.rows, across.as_lines(), (steps(out), input), |row, sums| {
                        if row < count {
                            to.part((block.first + row) * input, input).copy_from_slice(sums);
                        }
                    });
                }
                if let Some(x) = x {
                    let (_, x) = rounded(x, input, block.first, block.rows, layout.real);
                    let (of, x) = (steps(block.rows), Rows::of(x.as_bf16(), input));
                    pack_left(dy, count, of, out, slope_lines.block(block, out));
                    pack_right(x, count, of, input, row_lines.block(block, input));
                }
            }
        });
        let dweight = x.map(|_| {
            let mut dweight = vec![0f32; weight.len()];
            let slopes = Packed { lines: slopes.as_lines(), width: out };
            let rows = Packed { lines: rows.as_lines(), width: input };
            // SAFETY: there is a value for each.
            unsafe { weight_gradient(&layout, slopes, rows, false, dweight.as_mut_ptr(), true) };
            dweight
        });
        (wants_dx.then_some(dx), dweight)
    }
}

/// Rows `first..first + count` of so many as bf16, and how many of them there are.
fn rounded(x: &[f32], width: usize, first: usize, count: usize, all: usize) -> (usize, Buffer) {
    let real = count.min(all - first);
    let mut rows = Buffer::bf16(count, width);
    // SAFETY: whoever comes here has asked for the features.
    unsafe { round(&x[first * width..][..real * width], &mut rows.as_bf16_mut()[..real * width]) }
    (real, rows)
}
