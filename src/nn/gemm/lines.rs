//! The packed format of the bf16 kernels: cache lines of sixteen pairs. A pair is two neighbours along the reduction,
//! with the even element in the low half.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_store_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::Operand;

/// Lanes of a register: f32 sums, or pairs of bf16.
pub(in crate::nn) const LANES: usize = 16;

/// Sixteen pairs: one cache line and one register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::nn) struct Line(pub(in crate::nn) [u32; LANES]);

pub(in crate::nn) const ZERO: Line = Line([0; LANES]);

pub(super) fn grow(buffer: &mut Vec<Line>, lines: usize) {
    if buffer.len() < lines {
        buffer.resize(lines, ZERO);
    }
}

/// Sixteen elements of a stored row, zeros beyond its end.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn part(of: Operand, row: usize, column: usize, rows: usize, columns: usize) -> __m512 {
    if row >= rows || column >= columns {
        return _mm512_setzero_ps();
    }
    load(&of.data[row * of.columns + column..][..LANES.min(columns - column)])
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(from: &[f32]) -> __m512 {
    // SAFETY: the mask reads no lane beyond the slice.
    unsafe { _mm512_maskz_loadu_ps(mask(from.len()), from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::nn) fn store(to: &mut Line, value: __m512i) {
    // SAFETY: a Line is as large and as aligned as a register.
    unsafe { _mm512_store_si512((&raw mut *to).cast(), value) }
}

#[inline]
pub(super) fn mask(lanes: usize) -> u16 {
    if lanes >= LANES { u16::MAX } else { (1 << lanes) - 1 }
}

/// Rounds 32 neighbours to sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Rounds to sixteen pairs of one element of `even` and one of `odd`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn interleave(even: __m512, odd: __m512) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut lane = 0;
        while lane < 16 {
            order[2 * lane] = lane as u16;
            order[2 * lane + 1] = lane as u16 + 16;
            lane += 1;
        }
        order
    };
    // SAFETY: both types are 512 bits of plain data.
    let order = unsafe { transmute::<[u16; 32], __m512i>(ORDER) };
    _mm512_permutexvar_epi16(order, round(even, odd))
}

/// Transposes 16x16 pairs.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::nn) fn transpose(mut r: [__m512i; LANES]) -> [__m512i; LANES] {
    // Transpose 4x4 squares within the 128-bit quarters.
    for q in r.chunks_exact_mut(4) {
        let (a, b) = (_mm512_unpacklo_epi32(q[0], q[1]), _mm512_unpackhi_epi32(q[0], q[1]));
        let (c, d) = (_mm512_unpacklo_epi32(q[2], q[3]), _mm512_unpackhi_epi32(q[2], q[3]));
        q[0] = _mm512_unpacklo_epi64(a, c);
        q[1] = _mm512_unpackhi_epi64(a, c);
        q[2] = _mm512_unpacklo_epi64(b, d);
        q[3] = _mm512_unpackhi_epi64(b, d);
    }
    // Then transpose the quarters: one 4x4 square of them for each lane of a quarter.
    let mut out = [_mm512_setzero_si512(); LANES];
    for lane in 0..4 {
        let [w, x, y, z] = [r[lane], r[4 + lane], r[8 + lane], r[12 + lane]];
        let (a, b) = (_mm512_shuffle_i32x4::<0x88>(w, x), _mm512_shuffle_i32x4::<0xdd>(w, x));
        let (c, d) = (_mm512_shuffle_i32x4::<0x88>(y, z), _mm512_shuffle_i32x4::<0xdd>(y, z));
        out[lane] = _mm512_shuffle_i32x4::<0x88>(a, c);
        out[8 + lane] = _mm512_shuffle_i32x4::<0xdd>(a, c);
        out[4 + lane] = _mm512_shuffle_i32x4::<0x88>(b, d);
        out[12 + lane] = _mm512_shuffle_i32x4::<0xdd>(b, d);
    }
    out
}
