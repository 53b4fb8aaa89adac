//! AVX2 without VNNI. `vpmaddubsw` would saturate: both operands are widened to i16 instead, and
//! `vpmaddwd` sums pairs of products in i32, exactly.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16,
    _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_si256,
    _mm256_storeu_si256,
};

use super::{LINES, Line, PANEL, STEP, Sink, Sums, Tile, Work};

/// Rows that share what was loaded and widened.
const ROWS: usize = 4;
/// Channels of one register of sums, after the last pair is added.
const CHANNELS: usize = 8;

/// `work` has been checked.
#[target_feature(enable = "avx2,fma")]
pub(super) fn product<S: Sink>(work: &Work, sink: &mut S) {
    for panel in work.panels.clone() {
        let (lines, offsets) = work.panel(panel);
        for rows in work.tiles() {
            for row in (0..rows.height).step_by(ROWS) {
                match rows.height - row {
                    1 => tile::<1, S>(rows, row, lines, offsets, panel, sink),
                    2 => tile::<2, S>(rows, row, lines, offsets, panel, sink),
                    3 => tile::<3, S>(rows, row, lines, offsets, panel, sink),
                    _ => tile::<ROWS, S>(rows, row, lines, offsets, panel, sink),
                }
            }
        }
    }
}

/// Rows `row..row + M` of a tile.
#[target_feature(enable = "avx2,fma")]
fn tile<const M: usize, S: Sink>(
    rows: Tile,
    row: usize,
    lines: &[Line],
    offsets: &[i32; PANEL],
    panel: usize,
    sink: &mut S,
) {
    let steps = lines.len() / LINES;
    assert!(row + M <= rows.height && rows.values.len() == steps * rows.height * STEP);
    let mut out = [Sums([0; PANEL]); M];
    for (part, channel) in (0..PANEL).step_by(CHANNELS).enumerate() {
        // Two partial sums for each channel: of inputs 0 and 1 of a step, and of inputs 2 and 3.
        let mut sums = [[_mm256_setzero_si256(); 2]; M];
        for step in 0..steps {
            let weights = {
                let line = lines[step * LINES + channel * STEP / 64].0.as_ptr();
                // SAFETY: 32 bytes from the first or the second half of the 64 of a line.
                unsafe {
                    let half = line.add(part % 2 * 32);
                    [half, half.add(16)].map(|p| _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())))
                }
            };
            let x = rows.values[(step * rows.height + row) * STEP..].as_ptr();
            for (m, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row + m < height, within the bytes asserted above.
                let x = unsafe { x.add(m * STEP).cast::<i32>().read_unaligned() };
                let x = _mm256_cvtepu8_epi16(_mm_set1_epi32(x));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, weights));
                }
            }
        }
        for (out, [low, high]) in out.iter_mut().zip(sums) {
            let sum = in_order(_mm256_hadd_epi32(low, high));
            // SAFETY: eight i32 from `channel` on, and `channel + CHANNELS <= PANEL`.
            unsafe {
                let first = _mm256_loadu_si256(offsets.as_ptr().add(channel).cast());
                _mm256_storeu_si256(out.0.as_mut_ptr().add(channel).cast(), _mm256_add_epi32(first, sum));
            }
        }
    }
    sink.take(rows.first + row, panel, &out);
}

/// `hadd` works within halves: its quarters come as 0, 2, 1, 3.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(sum: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(sum)
}
