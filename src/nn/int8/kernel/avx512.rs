//! AVX512-VNNI: `vpdpbusd` multiplies 64 pairs and sums them by fours. A tile of up to fourteen rows keeps its sums
//! of a panel in 28 registers, so that weights are read once for the whole tile.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_store_si512,
};
use std::mem::MaybeUninit;

use super::{LINES, Line, PANEL, STEP, Sink, Sums, Tile, Work, portable};
use crate::nn::gemm::lines::{LANES, transpose};

/// Prefetch distance of weights, in lines: a few hundred cycles.
const PREFETCH_LINES: usize = 32;

/// Callers must have checked `work`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
pub(super) fn product<S: Sink>(work: &Work, sink: &mut S) {
    for panel in work.panels.clone() {
        let (lines, offsets) = work.panel(panel);
        for rows in work.tiles() {
            match rows.height {
                1 => tile::<1, S>(rows, lines, offsets, panel, sink),
                2 => tile::<2, S>(rows, lines, offsets, panel, sink),
                3 => tile::<3, S>(rows, lines, offsets, panel, sink),
                4 => tile::<4, S>(rows, lines, offsets, panel, sink),
                5 => tile::<5, S>(rows, lines, offsets, panel, sink),
                6 => tile::<6, S>(rows, lines, offsets, panel, sink),
                7 => tile::<7, S>(rows, lines, offsets, panel, sink),
                8 => tile::<8, S>(rows, lines, offsets, panel, sink),
                9 => tile::<9, S>(rows, lines, offsets, panel, sink),
                10 => tile::<10, S>(rows, lines, offsets, panel, sink),
                11 => tile::<11, S>(rows, lines, offsets, panel, sink),
                12 => tile::<12, S>(rows, lines, offsets, panel, sink),
                13 => tile::<13, S>(rows, lines, offsets, panel, sink),
                _ => tile::<14, S>(rows, lines, offsets, panel, sink),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn tile<const ROWS: usize, S: Sink>(
    rows: Tile,
    lines: &[Line],
    offsets: &[i32; PANEL],
    panel: usize,
    sink: &mut S,
) {
    let steps = lines.len() / LINES;
    assert!(ROWS == rows.height && rows.values.len() == steps * ROWS * STEP);
    let mut out = MaybeUninit::<[Sums; ROWS]>::uninit();
    accumulate(rows.values, lines, offsets, &mut out);
    // SAFETY: `accumulate` writes all of it.
    sink.take(rows.first, panel, unsafe { out.assume_init_ref() });
}

/// A separate function, so that the sums stay in registers from the first step to the last.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn accumulate<const ROWS: usize>(
    values: &[u8],
    lines: &[Line],
    offsets: &[i32; PANEL],
    out: &mut MaybeUninit<[Sums; ROWS]>,
) {
    let steps = lines.len() / LINES;
    assert_eq!(values.len(), steps * ROWS * STEP);
    let (mut x, mut w): (*const u8, *const Line) = (values.as_ptr(), lines.as_ptr());
    // SAFETY: sixteen i32 fill one register.
    let first = unsafe { [0, 16].map(|channel| _mm512_loadu_si512(offsets.as_ptr().add(channel).cast())) };
    let mut sums = [first; ROWS];
    for _ in 0..steps {
        _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(PREFETCH_LINES).cast());
        _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(PREFETCH_LINES + 1).cast());
        // SAFETY: `w` iterates over the `steps * LINES` lines.
        let weights = unsafe { [_mm512_load_si512(w.cast()), _mm512_load_si512(w.add(1).cast())] };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `x` iterates over the `steps * ROWS * STEP` bytes asserted above.
            let x = _mm512_set1_epi32(unsafe { x.add(row * STEP).cast::<i32>().read_unaligned() });
            sums[0] = _mm512_dpbusd_epi32(sums[0], x, weights[0]);
            sums[1] = _mm512_dpbusd_epi32(sums[1], x, weights[1]);
        }
        (x, w) = (x.wrapping_add(ROWS * STEP), w.wrapping_add(LINES));
    }
    let out = out.as_mut_ptr().cast::<Sums>();
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: row < ROWS; writes two times sixteen i32, with the alignment of `Sums`.
        unsafe {
            let out = out.add(row).cast::<i32>();
            _mm512_store_si512(out.cast(), sums[0]);
            _mm512_store_si512(out.add(16).cast(), sums[1]);
        }
    }
}

/// Sixteen steps of sixteen channels at a time.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn interleave(channels: &[&[[i8; STEP]]], lines: &mut [Line]) {
    let mut whole = 0;
    if let Ok(channels) = <&[&[[i8; STEP]]; LANES]>::try_from(channels) {
        whole = channels.iter().map(|own| own.len()).min().unwrap_or(0) / LANES;
        for block in 0..whole {
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (row, own) in rows.iter_mut().zip(channels) {
                // SAFETY: sixteen groups of four bytes fill one register.
                *row = unsafe { _mm512_loadu_si512(own[block * LANES..][..LANES].as_ptr().cast()) };
            }
            let lines = lines[block * LANES * LINES..].iter_mut().step_by(LINES);
            for (line, step) in lines.zip(transpose(rows)) {
                // SAFETY: a line is one register, and aligned like one.
                unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), step) }
            }
        }
    }
    portable::interleave(channels, whole * LANES, lines);
}

const _: () = assert!(LINES == 2 && PANEL == 32);
