//! Rows of u8 activations, the input of a product.

use pulp::{Simd, WithSimd};

use super::Norm;
use super::kernel::{Line, PANEL, Path, STEP, TILE, Work, arch};
use super::lanes::{Max, MaxMagnitude, fold};

/// How a row's values map to u8. A weight matrix is packed for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Zero is 128; the largest magnitude of the row is 127 away from it.
    Signed,
    /// The output of a ReLU: zero is 0, the largest value of the row is 255. Twice the resolution.
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

/// Quantized rows: `value ≈ (byte - zero) · scale`, with a scale for each row. The buffers are reused.
#[derive(Debug)]
pub struct Rows {
    /// Its products take these rows.
    path: Path,
    input: Input,
    count: usize,
    width: usize,
    /// Rows of a tile; the last one may have fewer. 1 if the values are row-major.
    height: usize,
    /// Rows that are computed together.
    together: usize,
    /// Tile after tile, `[steps, height]` groups of [`STEP`] bytes each.
    values: Vec<[u8; STEP]>,
    scales: Vec<f32>,
    /// A normalized row.
    normed: Vec<f32>,
}

impl Default for Rows {
    fn default() -> Self {
        Self::on_path(Path::best())
    }
}

impl Rows {
    pub(super) fn on_path(path: Path) -> Self {
        Self {
            path,
            input: Input::Signed,
            count: 0,
            width: 0,
            height: 1,
            together: 1,
            values: Vec::new(),
            scales: Vec::new(),
            normed: Vec::new(),
        }
    }

    /// Quantizes the rows of `x [count, width]`.
    pub fn quantize(&mut self, x: &[f32], width: usize, input: Input) {
        self.fill(x.len() / width, width, input, Plain { x, width });
    }

    /// Normalizes the rows of `x [count, width]` and quantizes them as [`Input::Signed`].
    pub fn quantize_normed(&mut self, x: &[f32], norm: &Norm) {
        let width = norm.width();
        let mut normed = std::mem::take(&mut self.normed);
        normed.resize(width, 0.0);
        self.fill(x.len() / width, width, Input::Signed, Normed { x, norm, normed: &mut normed });
        self.normed = normed;
    }

    /// Quantizes rows of `width` values, `stride` apart, as [`Input::NonNegative`]. `tops` are their maxima, in
    /// lanes.
    pub(super) fn quantize_positive(
        &mut self,
        x: &[f32],
        (width, stride): (usize, usize),
        tops: &[[f32; PANEL]],
    ) {
        self.fill(tops.len(), width, Input::NonNegative, Positive { x, width, stride, tops });
    }

    fn fill(&mut self, count: usize, width: usize, input: Input, source: impl RowSource) {
        (self.count, self.width, self.input) = (count, width, input);
        (self.height, self.together) = match self.path.row_major(width) {
            Some(together) => (1, together),
            None => {
                let height = count.div_ceil(count.div_ceil(TILE).max(1)).max(1);
                (height, height)
            }
        };
        let values = count.next_multiple_of(self.together) * width.div_ceil(STEP);
        self.values.resize(self.values.len().max(values), [0; STEP]);
        self.scales.resize(self.scales.len().max(count), 0.0);
        arch().dispatch(Fill { rows: self, source });
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

    /// The first row and the height of the tile that contains `row`.
    fn tile_of(&self, row: usize) -> (usize, usize) {
        let first = row / self.height * self.height;
        (first, self.height.min(self.count - first))
    }

    /// The product of these rows with all panels of a packed matrix.
    pub(super) fn work<'a>(&'a self, lines: &'a [Line], offsets: &'a [i32]) -> Work<'a> {
        let steps = self.width.div_ceil(STEP);
        let panels = 0..offsets.len() / PANEL;
        let values = self.values.as_flattened();
        Work { values, count: self.count, height: self.height, steps, lines, offsets, panels }
    }

    /// First row and number of the rows that are computed together.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let (count, together) = (self.count, self.together);
        (0..count).step_by(together).map(move |first| (first, together.min(count - first)))
    }
}

/// Provides the rows to quantize.
trait RowSource {
    /// A row and its largest magnitude.
    fn row<S: Simd>(&mut self, simd: S, index: usize) -> (&[f32], f32);
}

struct Plain<'a> {
    x: &'a [f32],
    width: usize,
}

impl RowSource for Plain<'_> {
    #[inline(always)]
    fn row<S: Simd>(&mut self, simd: S, index: usize) -> (&[f32], f32) {
        let row = &self.x[index * self.width..][..self.width];
        (row, fold(simd, MaxMagnitude, row))
    }
}

struct Normed<'a> {
    x: &'a [f32],
    norm: &'a Norm,
    normed: &'a mut [f32],
}

impl RowSource for Normed<'_> {
    #[inline(always)]
    fn row<S: Simd>(&mut self, simd: S, index: usize) -> (&[f32], f32) {
        let width = self.normed.len();
        self.norm.normalize(simd, &self.x[index * width..][..width], self.normed);
        (self.normed, fold(simd, MaxMagnitude, self.normed))
    }
}

struct Positive<'a> {
    x: &'a [f32],
    width: usize,
    stride: usize,
    tops: &'a [[f32; PANEL]],
}

impl RowSource for Positive<'_> {
    #[inline(always)]
    fn row<S: Simd>(&mut self, simd: S, index: usize) -> (&[f32], f32) {
        (&self.x[index * self.stride..][..self.width], fold(simd, Max, &self.tops[index]))
    }
}

/// A call of [`Rows::fill`]. A separate type, so that it is inlined into the dispatch.
struct Fill<'a, S> {
    rows: &'a mut Rows,
    source: S,
}

impl<R: RowSource> WithSimd for Fill<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, mut source } = self;
        let (input, steps) = (rows.input, rows.width.div_ceil(STEP));
        for index in 0..rows.count {
            let (first, height) = rows.tile_of(index);
            let tile = &mut rows.values[first * steps..][..height * steps];
            let (row, top) = source.row(simd, index);
            let inverse = if top > 0.0 { input.largest() / top } else { 0.0 };
            rows.scales[index] = top / input.largest();
            spread(row, inverse, input.zero(), &mut tile[index - first..], height);
        }
    }
}

/// Rounds a row (ties to even) into every `height`-th group of `out`.
#[inline(always)]
fn spread(row: &[f32], inverse: f32, zero: u8, out: &mut [[u8; STEP]], height: usize) {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer, in the low bits
    const GROUPS: usize = 16;
    let round = |value: f32| ((value * inverse + ROUND).to_bits() as u8).wrapping_add(zero);
    let round_all = |chunk: &[f32; GROUPS * STEP]| {
        let mut groups = [[0u8; STEP]; GROUPS];
        for (byte, &value) in groups.as_flattened_mut().iter_mut().zip(chunk) {
            *byte = round(value);
        }
        groups
    };
    let (chunks, rest) = row.as_chunks();
    if height == 1 && rest.is_empty() {
        for (chunk, out) in chunks.iter().zip(out.as_chunks_mut().0) {
            *out = round_all(chunk);
        }
        return;
    }
    let mut slots = out.chunks_mut(height);
    for chunk in chunks {
        for (group, slot) in round_all(chunk).iter().zip(slots.by_ref()) {
            slot[0] = *group;
        }
    }
    for (values, slot) in rest.chunks(STEP).zip(slots) {
        slot[0] = [zero; STEP];
        for (byte, &value) in slot[0].iter_mut().zip(values) {
            *byte = round(value);
        }
    }
}
