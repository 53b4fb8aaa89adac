//! AVX2 without VNNI. `vpmaddubsw` would saturate, so both operands are widened to i16, and `vpmaddwd` sums pairs of
//! products in i32, exactly.
//!
//! Widening costs as much as multiplying. So rows are widened once before a product, and a panel's weights once for
//! all rows. The inner loop consists of a load for each row, and a product and a sum for each row and register of
//! weights.

use std::arch::x86_64::{
    _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_hadd_epi32, _mm256_load_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_srai_epi16,
    _mm256_store_si256, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use std::cell::Cell;

use super::{LINES, Line, PANEL, STEP, Sink, Sums, Tile, Work};

/// Largest number of rows that share a register of weights. Twelve registers of sums, two of weights, one of a row
/// and one of products use all sixteen.
const ROWS: usize = 6;
/// Channels of two registers of sums. For four channels, a register holds the sums over inputs 0 and 1 of a step, and
/// over 2 and 3.
const CHANNELS: usize = 8;
/// Groups of [`CHANNELS`] in a panel.
const PARTS: usize = PANEL / CHANNELS;

/// The inputs of a step of one row, widened.
type Group = [i16; STEP];

/// The weights of a step for [`CHANNELS`] channels, widened: four inputs each of channels 0, 1, 4 and 5, then of 2,
/// 3, 6 and 7, the order that instructions on register halves produce.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Weights([i16; CHANNELS * STEP]);

/// Widened operands, in reusable memory.
#[derive(Default)]
struct Widened {
    /// In the order of [`Work::values`].
    rows: Vec<Group>,
    /// Of one panel, `[PARTS, steps]`.
    weights: Vec<Weights>,
}

thread_local! {
    /// Taken out while in use.
    static WIDENED: Cell<Widened> = Cell::default();
}

/// Callers must have checked `work`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn product<S: Sink>(work: &Work, sink: &mut S) {
    let mut widened = WIDENED.take();
    widened.take_rows(work);
    for panel in work.panels.clone() {
        let (lines, offsets) = work.panel(panel);
        widened.take_panel(lines);
        for tile in work.tiles() {
            let x = &widened.rows[tile.first * work.steps..][..tile.height * work.steps];
            let most = tile.height.div_ceil(tile.height.div_ceil(ROWS));
            for row in (0..tile.height).step_by(most) {
                let rows = Share { x, row, height: tile.height };
                match most.min(tile.height - row) {
                    1 => share::<1, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                    2 => share::<2, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                    3 => share::<3, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                    4 => share::<4, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                    5 => share::<5, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                    _ => share::<ROWS, S>(rows, &widened.weights, offsets, (tile, panel), sink),
                }
            }
        }
    }
    WIDENED.set(widened);
}

impl Widened {
    #[target_feature(enable = "avx2")]
    fn take_rows(&mut self, work: &Work) {
        let groups = work.values[..work.count * work.steps * STEP].as_chunks::<STEP>().0;
        self.rows.resize(self.rows.len().max(groups.len()), [0; STEP]);
        let (wide, bytes) = (self.rows.as_chunks_mut::<4>().0, groups.as_chunks::<4>().0);
        for (wide, bytes) in wide.iter_mut().zip(bytes) {
            // SAFETY: reads sixteen bytes and writes sixteen i16, which are both inside their slices.
            unsafe {
                let values = _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes.as_ptr().cast()));
                _mm256_storeu_si256(wide.as_mut_ptr().cast(), values);
            }
        }
        let done = groups.len() / 4 * 4;
        for (wide, bytes) in self.rows[done..].iter_mut().zip(&groups[done..]) {
            *wide = bytes.map(i16::from);
        }
    }

    #[target_feature(enable = "avx2")]
    fn take_panel(&mut self, lines: &[Line]) {
        let steps = lines.len() / LINES;
        self.weights.resize(PARTS * steps, Weights([0; CHANNELS * STEP]));
        let bytes = lines.as_ptr().cast::<i8>();
        for (part, weights) in self.weights.chunks_exact_mut(steps.max(1)).enumerate() {
            for (step, wide) in weights.iter_mut().enumerate() {
                // SAFETY: reads the part's 32 bytes of the step's two lines, and writes as many i16.
                unsafe {
                    let bytes = _mm256_loadu_si256(bytes.add((step * PANEL + part * CHANNELS) * STEP).cast());
                    // Duplicates each byte and shifts the upper one down with its sign: cheaper than `vpmovsxbw`.
                    let low = _mm256_srai_epi16::<8>(_mm256_unpacklo_epi8(bytes, bytes));
                    let high = _mm256_srai_epi16::<8>(_mm256_unpackhi_epi8(bytes, bytes));
                    let wide = wide.0.as_mut_ptr();
                    _mm256_store_si256(wide.cast(), low);
                    _mm256_store_si256(wide.add(16).cast(), high);
                }
            }
        }
    }
}

/// Rows of a tile, from `row` on.
#[derive(Clone, Copy)]
struct Share<'a> {
    /// All rows of the tile, `[steps, height]`.
    x: &'a [Group],
    height: usize,
    row: usize,
}

#[target_feature(enable = "avx2,fma")]
fn share<const M: usize, S: Sink>(
    rows: Share,
    weights: &[Weights],
    offsets: &[i32; PANEL],
    (tile, panel): (Tile, usize),
    sink: &mut S,
) {
    let mut out = [Sums([0; PANEL]); M];
    let steps = weights.len() / PARTS;
    for part in 0..PARTS {
        accumulate(rows, &weights[part * steps..][..steps], offsets, part * CHANNELS, &mut out);
    }
    sink.take(tile.first + rows.row, panel, &out);
}

/// Sums of [`CHANNELS`] channels from `channel` on. A separate function, so that they stay in registers.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn accumulate<const M: usize>(
    rows: Share,
    weights: &[Weights],
    offsets: &[i32; PANEL],
    channel: usize,
    out: &mut [Sums; M],
) {
    let Share { x, height, row } = rows;
    assert!(row + M <= height && x.len() == weights.len() * height && channel + CHANNELS <= PANEL);
    let mut x = x.as_ptr().wrapping_add(row);
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    for weights in weights {
        let weights = weights.0.as_ptr();
        // SAFETY: two registers, with the alignment of `Weights`.
        let weights =
            unsafe { [_mm256_load_si256(weights.cast()), _mm256_load_si256(weights.add(16).cast())] };
        for (m, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row + m < height in each step, and there are as many steps as weights, as asserted above.
            let x = _mm256_set1_epi64x(unsafe { x.add(m).cast::<i64>().read_unaligned() });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, weights));
            }
        }
        x = x.wrapping_add(height);
    }
    for (out, [low, high]) in out.iter_mut().zip(sums) {
        // Works on register halves like the unpacking, and so restores the order of channels.
        let sum = _mm256_hadd_epi32(low, high);
        // SAFETY: eight i32 from `channel` on, within the panel as asserted above.
        unsafe {
            let first = _mm256_loadu_si256(offsets.as_ptr().add(channel).cast());
            _mm256_storeu_si256(out.0.as_mut_ptr().add(channel).cast(), _mm256_add_epi32(first, sum));
        }
    }
}
