//! AMX-INT8: an instruction multiplies sixteen rows of 64 inputs by sixteen channels of 64 inputs. The packed weights
//! need no other order, because sixteen steps of a line are such a tile. The rows must be row-major, which is the order
//! of tiles of height 1.

use std::arch::asm;

use super::{AMX_INPUTS as INPUTS, AMX_ROWS as ROWS, Line, PANEL, STEP, Sink, Sums, Work, avx512};
use crate::nn::tiles::{self, Tiles};

/// Steps of a tile.
const STEPS: usize = INPUTS / STEP;

/// Callers must have checked `work`, and that the tiles are available.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
pub(super) fn product<S: Sink>(work: &Work, sink: &mut S) {
    let width = work.steps * STEP;
    let padded = work.count.next_multiple_of(ROWS) * width;
    if work.height != 1 || width == 0 || !width.is_multiple_of(INPUTS) {
        return avx512::product(work, sink);
    }
    assert!(work.values.len() >= padded, "rows are not padded");
    // SAFETY: the caller has checked that they are available, and they are held here only.
    let tiles = unsafe { Tiles::configure() };
    let mut sums = [Sums([0; PANEL]); ROWS];
    for panel in work.panels.clone() {
        let (lines, offsets) = work.panel(panel);
        for first in (0..work.count).step_by(ROWS) {
            let (rows, count) = (&work.values[first * width..][..ROWS * width], ROWS.min(work.count - first));
            if count > tiles::ROWS {
                accumulate_two(&tiles, rows, lines, offsets, &mut sums);
            } else {
                accumulate_one(&tiles, rows, lines, offsets, &mut sums);
            }
            sink.take(first, panel, &sums[..count]);
        }
    }
}

/// Fetches the weights of the step after the next, all 32 lines of them.
macro_rules! prefetch_weights {
    () => {
        prefetch_weights!(
            4096 4160 4224 4288 4352 4416 4480 4544 4608 4672 4736 4800 4864 4928 4992 5056
            5120 5184 5248 5312 5376 5440 5504 5568 5632 5696 5760 5824 5888 5952 6016 6080
        )
    };
    ($($offset:literal)*) => { concat!($("prefetcht0 [{weights} + ", $offset, "]\n"),*) };
}

/// The sums of [`ROWS`] rows over a panel.
#[inline(always)]
fn accumulate_two(_: &Tiles, rows: &[u8], lines: &[Line], offsets: &[i32; PANEL], out: &mut [Sums; ROWS]) {
    let (width, steps) = check(rows, lines);
    // SAFETY: reads `steps` tiles of each operand, which are there as checked, and the 32 offsets; writes all of `out`.
    unsafe {
        asm!(
            // Each row of a tile reads the same line, because the distance between them is zero.
            "tileloadd tmm0, [{offsets} + {zero}]",
            "tileloadd tmm1, [{offsets} + {zero} + 64]",
            "tileloadd tmm2, [{offsets} + {zero}]",
            "tileloadd tmm3, [{offsets} + {zero} + 64]",
            "2:",
            "tileloadd tmm4, [{upper} + {width}]",
            "tileloadd tmm6, [{weights} + {pair}]",
            "tileloadd tmm7, [{weights} + {pair} + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{lower} + {width}]",
            "tdpbusd tmm1, tmm4, tmm7",
            prefetch_weights!(),
            "add {upper}, 64",
            "add {lower}, 64",
            "add {weights}, 2048",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {pair}], tmm0",
            "tilestored [{out} + {pair} + 64], tmm1",
            "tilestored [{out} + {pair} + 2048], tmm2",
            "tilestored [{out} + {pair} + 2112], tmm3",
            upper = inout(reg) rows.as_ptr() => _,
            lower = inout(reg) rows.as_ptr().add(tiles::ROWS * width) => _,
            weights = inout(reg) lines.as_ptr() => _,
            steps = inout(reg) steps => _,
            width = in(reg) width,
            pair = in(reg) PAIR,
            offsets = in(reg) offsets.as_ptr(),
            zero = in(reg) 0usize,
            out = in(reg) out.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The sums of the first half of [`ROWS`] rows over a panel.
#[inline(always)]
fn accumulate_one(_: &Tiles, rows: &[u8], lines: &[Line], offsets: &[i32; PANEL], out: &mut [Sums; ROWS]) {
    let (width, steps) = check(rows, lines);
    // SAFETY: as in `accumulate_two`, with half of the rows and sums.
    unsafe {
        asm!(
            "tileloadd tmm0, [{offsets} + {zero}]",
            "tileloadd tmm1, [{offsets} + {zero} + 64]",
            "2:",
            "tileloadd tmm4, [{rows} + {width}]",
            "tileloadd tmm6, [{weights} + {pair}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{weights} + {pair} + 64]",
            "tdpbusd tmm1, tmm4, tmm7",
            prefetch_weights!(),
            "add {rows}, 64",
            "add {weights}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {pair}], tmm0",
            "tilestored [{out} + {pair} + 64], tmm1",
            rows = inout(reg) rows.as_ptr() => _,
            weights = inout(reg) lines.as_ptr() => _,
            steps = inout(reg) steps => _,
            width = in(reg) width,
            pair = in(reg) PAIR,
            offsets = in(reg) offsets.as_ptr(),
            zero = in(reg) 0usize,
            out = in(reg) out.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Distance between a step's first line and the next step's, and between rows of sums: two cache lines.
const PAIR: usize = 128;

/// The bytes of a row, and the number of steps over them.
///
/// # Panics
/// If `rows` are not [`ROWS`] rows, or `lines` not a panel, of this width.
#[inline(always)]
fn check(rows: &[u8], lines: &[Line]) -> (usize, usize) {
    let (width, steps) = (rows.len() / ROWS, rows.len() / ROWS / INPUTS);
    assert!(steps > 0 && rows.len() == ROWS * steps * INPUTS && lines.len() == steps * STEPS * super::LINES);
    (width, steps)
}

const _: () = assert!(ROWS == 2 * tiles::ROWS);
const _: () = assert!(size_of::<Sums>() == PAIR && super::LINES * size_of::<Line>() == PAIR);
