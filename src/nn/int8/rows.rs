//! Rows of activations in u8, as a product reads them.

use super::kernel::{Line, PANEL, STEP, TILE, Work};
use super::norm::max_abs;

/// How a row's values are spread over u8. A weight matrix is packed for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Zero is 128; the largest magnitude of the row is 127 away from it.
    Signed,
    /// What comes out of a ReLU: zero is 0, the largest value of the row 255. Twice as fine.
    NonNegative,
}

impl Input {
    pub(super) fn zero(self) -> u8 {
        match self {
            Self::Signed => 128,
            Self::NonNegative => 0,
        }
    }

    fn largest(self) -> f32 {
        match self {
            Self::Signed => 127.0,
            Self::NonNegative => 255.0,
        }
    }
}

/// Quantised rows, `value ≈ (byte - zero) · scale` with a scale for each row. Their buffers are kept
/// from one [`Rows::fill`] to the next.
#[derive(Debug)]
pub struct Rows {
    input: Input,
    count: usize,
    width: usize,
    /// Rows of a tile; the last may have fewer.
    height: usize,
    /// Tile after tile, `[steps, height, STEP]` each.
    values: Vec<u8>,
    scales: Vec<f32>,
    row: Vec<f32>,
    bytes: Vec<u8>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            input: Input::Signed,
            count: 0,
            width: 0,
            height: 1,
            values: Vec::new(),
            scales: Vec::new(),
            row: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl Rows {
    /// Takes `count` rows of `width` values, which `source(index, row)` writes.
    pub fn fill(
        &mut self,
        count: usize,
        width: usize,
        input: Input,
        mut source: impl FnMut(usize, &mut [f32]),
    ) {
        let tiles = count.div_ceil(TILE).max(1);
        let steps = width.div_ceil(STEP);
        (self.count, self.width, self.input, self.height) =
            (count, width, input, count.div_ceil(tiles).max(1));
        self.values.resize(count * steps * STEP, 0);
        self.scales.resize(count, 0.0);
        self.row.resize(width, 0.0);
        self.bytes.clear();
        self.bytes.resize(steps * STEP, input.zero());
        for index in 0..count {
            source(index, &mut self.row);
            self.scales[index] = quantize(&self.row, input, &mut self.bytes);
            let (first, height) = self.tile_of(index);
            let tile = &mut self.values[first * steps * STEP..][..height * steps * STEP];
            let slots = tile[(index - first) * STEP..].chunks_mut(height * STEP);
            for (slot, bytes) in slots.zip(self.bytes.as_chunks::<STEP>().0) {
                slot[..STEP].copy_from_slice(bytes);
            }
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn input(&self) -> Input {
        self.input
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales[..self.count]
    }

    /// The first row and the height of the tile that holds `row`.
    fn tile_of(&self, row: usize) -> (usize, usize) {
        let first = row / self.height * self.height;
        (first, self.height.min(self.count - first))
    }

    /// The product of these rows with a packed matrix, all panels.
    pub(super) fn work<'a>(&'a self, lines: &'a [Line], offsets: &'a [i32]) -> Work<'a> {
        let steps = self.width.div_ceil(STEP);
        let panels = 0..offsets.len() / PANEL;
        Work { values: &self.values, count: self.count, height: self.height, steps, lines, offsets, panels }
    }

    /// First row and height of each tile.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).step_by(self.height).map(|row| self.tile_of(row))
    }
}

/// Rounds a row (ties to even) into the front of `bytes` and answers its scale.
fn quantize(row: &[f32], input: Input, bytes: &mut [u8]) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer, in the low bits
    pulp::Arch::new().dispatch(|| {
        let top = max_abs(row);
        let inverse = if top > 0.0 { input.largest() / top } else { 0.0 };
        let zero = input.zero();
        for (byte, &value) in bytes.iter_mut().zip(row) {
            *byte = ((value * inverse + ROUND).to_bits() as u8).wrapping_add(zero);
        }
        top / input.largest()
    })
}
