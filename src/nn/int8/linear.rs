//! The 8-bit affine map.

use std::ops::Range;

use super::kernel::{LINES, Line, PANEL, Path, STEP, Sink, Sums, Work, product};
use super::lanes::LANES;
use super::{Buffer, Input, RowScale, Rows};
use crate::{Error, Result};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    Store,
    /// Adds to the existing value, as sublayers do with the residual stream.
    Add,
}

/// `y = x · Wᵀ + b` with `W` in i8 and a scale for each output channel, packed for [`product`].
#[derive(Debug)]
pub struct PackedLinear {
    inputs: usize,
    outputs: usize,
    input: Input,
    path: Path,
    /// `[panels, steps, LINES]`
    lines: Vec<Line>,
    /// Compensates the zero point of the rows: `-zero · Σ w` for each channel. Padded to whole panels, like the
    /// following fields.
    offsets: Vec<i32>,
    scales: Vec<Channels>,
    biases: Vec<Channels>,
}

/// A value for each channel of a panel, aligned to cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Channels([f32; PANEL]);

impl PackedLinear {
    /// With more inputs, an i32 sum of u8 × i8 products could overflow.
    const MAX_INPUTS: usize = i32::MAX as usize / (255 * 127);

    /// Quantizes `weight [outputs, inputs]` to −127..=127, with a scale for each channel.
    ///
    /// # Errors
    /// [`Error::Model`] if the lengths do not match.
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
        let mut packed = Self::zeros(path, inputs, outputs, input);
        for (padded, bias) in packed.biases.iter_mut().zip(bias.chunks(PANEL)) {
            padded.0[..bias.len()].copy_from_slice(bias);
        }
        for (channel, row) in weight.chunks_exact(inputs).enumerate() {
            packed.set(channel, row);
        }
        Ok(packed)
    }

    fn zeros(path: Path, inputs: usize, outputs: usize, input: Input) -> Self {
        let (panels, steps) = (outputs.div_ceil(PANEL), inputs.div_ceil(STEP));
        Self {
            inputs,
            outputs,
            input,
            path,
            lines: vec![Line([0; 64]); panels * steps * LINES],
            offsets: vec![0; panels * PANEL],
            scales: vec![Channels([0.0; PANEL]); panels],
            biases: vec![Channels([0.0; PANEL]); panels],
        }
    }

    /// A map of the same kind with `outputs` channels of zeros.
    pub(super) fn empty(&self, outputs: usize) -> Self {
        Self::zeros(self.path, self.inputs, outputs, self.input)
    }

    /// Copies everything of a channel except its weights from another matrix of the same kind.
    pub(super) fn copy_factors(&mut self, channel: usize, other: &Self, from: usize) {
        let place = |channel: usize| (channel / PANEL, channel % PANEL);
        let ((panel, within), (its_panel, its_within)) = (place(channel), place(from));
        self.offsets[channel] = other.offsets[from];
        self.scales[panel].0[within] = other.scales[its_panel].0[its_within];
        self.biases[panel].0[within] = other.biases[its_panel].0[its_within];
    }

    pub(super) fn path(&self) -> Path {
        self.path
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }

    /// Number of steps over the inputs.
    pub(super) fn steps(&self) -> usize {
        self.inputs.div_ceil(STEP)
    }

    fn set(&mut self, channel: usize, row: &[f32]) {
        let steps = self.steps();
        let (panel, within) = (channel / PANEL, channel % PANEL);
        let scale = RowScale::of(row);
        let mut sum = 0i32;
        for (step, weights) in row.chunks(STEP).enumerate() {
            let line = (panel * steps + step) * LINES + within / 16;
            for (i, &w) in weights.iter().enumerate() {
                let rounded = scale.round(w);
                self.lines[line].0[within % 16 * STEP + i] = rounded;
                sum += i32::from(rounded);
            }
        }
        self.scales[panel].0[within] = scale.factor();
        self.offsets[channel] = -i32::from(self.input.zero()) * sum;
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The kind of rows that this was packed for.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Computes `out [count, outputs]` from the quantized rows, on this thread.
    ///
    /// # Panics
    /// If shapes or kinds do not match.
    pub fn forward(&self, rows: &Rows, mode: StoreMode, out: &mut [f32]) {
        assert_eq!(out.len(), rows.count() * self.outputs, "out is [count, outputs]");
        self.check(rows);
        let work = rows.work(&self.lines, &self.offsets);
        match mode {
            StoreMode::Store => self.run(&work, rows.scales(), self.outputs, out, Store),
            StoreMode::Add => self.run(&work, rows.scales(), self.outputs, out, Add),
        }
    }

    /// Computes `relu(y)` of the quantized rows and quantizes it into `out` for the next product. The largest value
    /// of each row is tracked on the way.
    pub fn forward_relu(&self, rows: &Rows, positive: &mut Positive, out: &mut Rows) {
        self.check(rows);
        let stride = self.outputs + Positive::APART;
        let y = positive.values.take(rows.count() * stride);
        let tops = &mut positive.tops;
        tops.clear();
        tops.resize(rows.count(), [0.0; PANEL]);
        self.run(&rows.work(&self.lines, &self.offsets), rows.scales(), stride, y, Relu { tops });
        out.quantize_positive(y, (self.outputs, stride), tops);
    }

    /// Computes `out [height, columns]` for a tile of rows `first..` and the channels of some panels.
    pub(super) fn tile(&self, rows: &Rows, tile: (usize, usize), panels: Range<usize>, out: &mut [f32]) {
        self.check(rows);
        let (first, height) = tile;
        let whole = rows.work(&self.lines, &self.offsets);
        let values = &whole.values[first * whole.steps * STEP..];
        let stride = panels.len() * PANEL;
        let work = Work { values, count: height, height: whole.height.min(height), panels, ..whole };
        self.run(&work, &rows.scales()[first..], stride, out, Store);
    }

    fn run(&self, work: &Work, scales: &[f32], stride: usize, out: &mut [f32], finish: impl Finish) {
        let first_panel = work.panels.start;
        product(self.path, work, &mut Scaled { linear: self, scales, first_panel, stride, out, finish });
    }

    fn check(&self, rows: &Rows) {
        assert_eq!((rows.width(), rows.input()), (self.inputs, self.input), "rows are of another kind");
    }
}

/// Scratch memory of [`PackedLinear::forward_relu`].
#[derive(Debug, Default)]
pub struct Positive {
    values: Buffer,
    tops: Vec<[f32; PANEL]>,
}

impl Positive {
    /// Gap between rows, so that rows of 1024 values do not share the same cache sets.
    const APART: usize = LANES;
}

/// Converts integers to f32: `sum · (row scale · channel scale) + bias`, each operation rounded separately.
struct Scaled<'a, F> {
    linear: &'a PackedLinear,
    scales: &'a [f32],
    /// The panel of the first column of `out`.
    first_panel: usize,
    /// Distance between rows of `out`.
    stride: usize,
    out: &'a mut [f32],
    finish: F,
}

impl<F: Finish> Sink for Scaled<'_, F> {
    #[inline(always)]
    fn take(&mut self, first: usize, panel: usize, sums: &[Sums]) {
        let column = (panel - self.first_panel) * PANEL;
        let width = PANEL.min(self.linear.outputs - panel * PANEL);
        let factors = (&self.linear.scales[panel], &self.linear.biases[panel]);
        let out = self.out[first * self.stride + column..].chunks_mut(self.stride);
        let rows = sums.iter().zip(&self.scales[first..]).zip(out);
        for (row, ((sums, &scale), out)) in rows.enumerate() {
            let row = first + row;
            match out.first_chunk_mut() {
                Some(out) if width == PANEL => finish(&mut self.finish, row, sums, scale, factors, out),
                _ => {
                    let mut padded = [0f32; PANEL];
                    padded[..width].copy_from_slice(&out[..width]);
                    finish(&mut self.finish, row, sums, scale, factors, &mut padded);
                    out[..width].copy_from_slice(&padded[..width]);
                }
            }
        }
    }
}

/// Processes half a panel at a time, so that all values stay in registers. Reads `out` before writing it, because the
/// compiler cannot know that it does not overlap.
#[inline(always)]
fn finish(
    finish: &mut impl Finish,
    row: usize,
    sums: &Sums,
    scale: f32,
    (scales, biases): (&Channels, &Channels),
    out: &mut [f32; PANEL],
) {
    for (half, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut y = [0f32; LANES];
        for (i, y) in y.iter_mut().enumerate() {
            let channel = half * LANES + i;
            *y = sums.0[channel] as f32 * (scale * scales.0[channel]) + biases.0[channel];
        }
        *out = finish.of(row, half, *out, y);
    }
}

/// Computes the value to store from the results `y` of one half of a row's panel and the value `old` that is there.
trait Finish {
    fn of(&mut self, row: usize, half: usize, old: [f32; LANES], y: [f32; LANES]) -> [f32; LANES];
}

struct Store;

impl Finish for Store {
    #[inline(always)]
    fn of(&mut self, _row: usize, _half: usize, _old: [f32; LANES], y: [f32; LANES]) -> [f32; LANES] {
        y
    }
}

struct Add;

impl Finish for Add {
    #[inline(always)]
    fn of(&mut self, _row: usize, _half: usize, old: [f32; LANES], mut y: [f32; LANES]) -> [f32; LANES] {
        for i in 0..LANES {
            y[i] += old[i];
        }
        y
    }
}

/// Tracks the largest values of each row, in lanes. The channels that pad a panel have weight and bias 0.
struct Relu<'a> {
    tops: &'a mut [[f32; PANEL]],
}

impl Finish for Relu<'_> {
    #[inline(always)]
    fn of(&mut self, row: usize, half: usize, _old: [f32; LANES], mut y: [f32; LANES]) -> [f32; LANES] {
        let tops = &mut self.tops[row].as_chunks_mut::<LANES>().0[half];
        for i in 0..LANES {
            y[i] = y[i].max(0.0);
            tops[i] = if y[i] > tops[i] { y[i] } else { tops[i] };
        }
        y
    }
}

const _: () = assert!(PANEL == 2 * LANES);
