//! The affine map in eight bits.

use std::ops::Range;

use super::kernel::{LINES, Line, PANEL, Path, STEP, Sink, Sums, Work, product};
use super::{Input, Rows};
use crate::{Error, Result};

/// What the product's last loop does with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Store,
    /// Stores `max(0, y)`.
    Relu,
    /// Adds to what is there: how a sublayer returns to the residual stream.
    Add,
}

/// `y = x · Wᵀ + b` with `W` in i8, a scale for each output channel, packed for [`product`].
#[derive(Debug)]
pub struct PackedLinear {
    inputs: usize,
    outputs: usize,
    input: Input,
    path: Path,
    /// `[panels, steps, LINES]`
    lines: Vec<Line>,
    /// What makes up for the zero point of the rows, a channel each: `-zero · Σ w`. As the other
    /// vectors here it is padded to whole panels.
    offsets: Vec<i32>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

impl PackedLinear {
    /// Above this an i32 sum of u8 x i8 products might overflow.
    const MAX_INPUTS: usize = i32::MAX as usize / (255 * 127);

    /// Rounds `weight [outputs, inputs]` to 127 steps on either side of zero for each channel.
    ///
    /// # Errors
    /// [`Error::Model`] where the lengths do not fit each other.
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize, input: Input) -> Result<Self> {
        Self::on_path(Path::best(), weight, bias, inputs, input)
    }

    pub(super) fn on_path(
        path: Path,
        weight: &[f32],
        bias: &[f32],
        inputs: usize,
        input: Input,
    ) -> Result<Self> {
        let outputs = bias.len();
        if inputs == 0 || inputs > Self::MAX_INPUTS || weight.len() != inputs * outputs {
            let size = weight.len();
            return Err(Error::Model(format!("a weight of {size} values is not [{outputs}, {inputs}]")));
        }
        let (panels, steps) = (outputs.div_ceil(PANEL), inputs.div_ceil(STEP));
        let padded = panels * PANEL;
        let mut packed = Self {
            inputs,
            outputs,
            input,
            path,
            lines: vec![Line([0; 64]); panels * steps * LINES],
            offsets: vec![0; padded],
            scales: vec![0.0; padded],
            biases: bias.to_vec(),
        };
        packed.biases.resize(padded, 0.0);
        for (channel, row) in weight.chunks_exact(inputs).enumerate() {
            packed.set(channel, row);
        }
        Ok(packed)
    }

    fn set(&mut self, channel: usize, row: &[f32]) {
        let steps = self.inputs.div_ceil(STEP);
        let (panel, within) = (channel / PANEL, channel % PANEL);
        let top = row.iter().fold(0f32, |top, w| top.max(w.abs()));
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        let mut sum = 0i32;
        for (step, weights) in row.chunks(STEP).enumerate() {
            let line = (panel * steps + step) * LINES + within / 16;
            for (i, &w) in weights.iter().enumerate() {
                let rounded = (w * inverse).round_ties_even() as i8;
                self.lines[line].0[within % 16 * STEP + i] = rounded;
                sum += i32::from(rounded);
            }
        }
        self.scales[channel] = top / 127.0;
        self.offsets[channel] = -i32::from(self.input.zero()) * sum;
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What this was packed for; rows of another kind do not fit.
    pub fn input(&self) -> Input {
        self.input
    }

    /// `out [count, outputs]` from the quantised rows, on this thread.
    ///
    /// # Panics
    /// Where shapes or kinds do not fit: a mistake of the caller.
    pub fn forward(&self, rows: &Rows, then: Then, out: &mut [f32]) {
        assert_eq!(out.len(), rows.count() * self.outputs, "out is [count, outputs]");
        self.check(rows);
        let work = rows.work(&self.lines, &self.offsets);
        let (stride, scales) = (self.outputs, rows.scales());
        product(self.path, &work, &mut Scaled { linear: self, then, scales, first_panel: 0, stride, out });
    }

    /// `out [height, columns]` for a tile's rows `first..` and the channels of some panels.
    pub(super) fn tile(&self, rows: &Rows, tile: (usize, usize), panels: Range<usize>, out: &mut [f32]) {
        self.check(rows);
        let (first, height) = tile;
        let whole = rows.work(&self.lines, &self.offsets);
        let values = &whole.values[first * whole.steps * STEP..];
        let work = Work { values, count: height, height, panels: panels.clone(), ..whole };
        let (stride, scales) = (panels.len() * PANEL, &rows.scales()[first..]);
        let first_panel = panels.start;
        product(
            self.path,
            &work,
            &mut Scaled { linear: self, then: Then::Store, scales, first_panel, stride, out },
        );
    }

    fn check(&self, rows: &Rows) {
        assert_eq!((rows.width(), rows.input()), (self.inputs, self.input), "rows are of another kind");
    }
}

/// Integers to f32: `sum · (row scale · channel scale) + bias`, each operation rounded on its own.
struct Scaled<'a> {
    linear: &'a PackedLinear,
    then: Then,
    scales: &'a [f32],
    /// The panel that the first column of `out` belongs to.
    first_panel: usize,
    /// Columns of `out`.
    stride: usize,
    out: &'a mut [f32],
}

impl Sink for Scaled<'_> {
    #[inline(always)]
    fn take(&mut self, row: usize, panel: usize, sums: &Sums) {
        let column = (panel - self.first_panel) * PANEL;
        let scale = self.scales[row];
        let scales = &self.linear.scales[panel * PANEL..][..PANEL];
        let biases = &self.linear.biases[panel * PANEL..][..PANEL];
        let mut y = [0f32; PANEL];
        for i in 0..PANEL {
            y[i] = sums.0[i] as f32 * (scale * scales[i]) + biases[i];
        }
        let out = &mut self.out[row * self.stride + column..];
        match out.first_chunk_mut::<PANEL>() {
            Some(out) if column + PANEL <= self.stride => finish(self.then, &y, out),
            _ => finish(self.then, &y, &mut out[..self.stride - column]),
        }
    }
}

#[inline(always)]
fn finish(then: Then, y: &[f32; PANEL], out: &mut [f32]) {
    for (out, &y) in out.iter_mut().zip(y) {
        *out = match then {
            Then::Store => y,
            Then::Relu => y.max(0.0),
            Then::Add => *out + y,
        };
    }
}
