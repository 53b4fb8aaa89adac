//! Attention in f32 from some queries of one sentence to all its keys, over slices.
//!
//! Keys come transposed, so that scores are products of whole registers without horizontal sums, and
//! padded to [`KEYS`] with zeros, which get no weight. Some queries share what is loaded, and their sums
//! stay in registers. Each sum goes over its terms in order, one fused multiply-add after the other: how
//! wide registers are and how many queries share them changes no bit.

use pulp::Simd;

use super::Buffer;
use super::norm::{LANES as KEYS, softmax};

/// Most queries that are computed together: with two registers of sums each, and the operands.
const GROUP: usize = 7;

/// Vectors at equal distances in a buffer: vector `i` starts at `i · stride`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Strided<'a> {
    /// The vectors from `index` on.
    pub fn from(self, index: usize) -> Self {
        Self { data: &self.data[index * self.stride..], ..self }
    }

    #[inline(always)]
    fn at(self, index: usize, offset: usize, width: usize) -> &'a [f32] {
        &self.data[index * self.stride + offset..][..width]
    }
}

/// The number of keys with their padding.
pub fn padded_keys(keys: usize) -> usize {
    keys.next_multiple_of(KEYS)
}

/// `keys` vectors of `width` values → `out [width, padded_keys]`, in squares of four by four.
pub fn transpose_keys(from: Strided, keys: usize, width: usize, out: &mut [f32]) {
    const SIDE: usize = 4;
    let padded = padded_keys(keys);
    let out = &mut out[..width * padded];
    let vector = |key: usize| if key < keys { from.at(key, 0, width) } else { &[] };
    for start in (0..padded).step_by(SIDE) {
        let vectors: [&[f32]; SIDE] = std::array::from_fn(|k| vector(start + k));
        let squares = vectors.map(|vector| vector.as_chunks::<SIDE>().0);
        for (i, rows) in out.chunks_mut(SIDE * padded).enumerate() {
            let square = squares.map(|chunks| chunks.get(i).copied().unwrap_or_default());
            for (c, row) in rows.chunks_exact_mut(padded).enumerate() {
                row[start..][..SIDE].copy_from_slice(&square.map(|vector| vector[c]));
            }
        }
    }
}

/// One sentence's keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub width: usize,
    pub heads: usize,
    pub keys: usize,
    /// `[width, padded_keys(keys)]`
    pub keys_transposed: &'a [f32],
    pub values: Strided<'a>,
}

impl Attention<'_> {
    /// softmax(Q · Kᵀ / √head) · V (Vaswani et al. 2017) for each of `count` queries, into
    /// `out [count, width]`. `weights` is scratch.
    pub fn attend(&self, queries: Strided, count: usize, weights: &mut Buffer, out: &mut [f32]) {
        let weights = weights.take(GROUP * padded_keys(self.keys));
        pulp::Arch::new().dispatch(Attend { of: *self, queries, count, weights, out });
    }
}

/// A call of [`Attention::attend`].
struct Attend<'a> {
    of: Attention<'a>,
    queries: Strided<'a>,
    count: usize,
    weights: &'a mut [f32],
    out: &'a mut [f32],
}

impl pulp::WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { of, queries, count, weights, out } = self;
        let head = of.width / of.heads;
        for start in (0..of.width).step_by(head) {
            for first in (0..count).step_by(GROUP) {
                let out = &mut out[first * of.width..];
                match count - first {
                    1 => of.group::<1, S>(simd, queries, first, start, weights, out),
                    2 => of.group::<2, S>(simd, queries, first, start, weights, out),
                    3 => of.group::<3, S>(simd, queries, first, start, weights, out),
                    4 => of.group::<4, S>(simd, queries, first, start, weights, out),
                    5 => of.group::<5, S>(simd, queries, first, start, weights, out),
                    6 => of.group::<6, S>(simd, queries, first, start, weights, out),
                    _ => of.group::<GROUP, S>(simd, queries, first, start, weights, out),
                }
            }
        }
    }
}

impl Attention<'_> {
    /// `N` queries from `first` on, the head that starts at `start`.
    #[inline(always)]
    fn group<const N: usize, S: Simd>(
        &self,
        simd: S,
        queries: Strided,
        first: usize,
        start: usize,
        weights: &mut [f32],
        out: &mut [f32],
    ) {
        let (head, padded) = (self.width / self.heads, padded_keys(self.keys));
        let queries: [&[f32]; N] = std::array::from_fn(|n| queries.at(first + n, start, head));
        let keys = &self.keys_transposed[start * padded..][..head * padded];
        let weights = &mut weights[..N * padded];
        scores(simd, queries, keys, padded, weights);
        let scale = (head as f32).powf(-0.5);
        for weights in weights.chunks_exact_mut(padded) {
            softmax(weights.as_chunks_mut().0, self.keys, scale);
        }
        let weights: [&[f32]; N] = std::array::from_fn(|n| &weights[n * padded..][..self.keys]);
        let lanes = S::F32_LANES;
        let mut at = start;
        while at + 2 * lanes <= start + head {
            mix::<N, 2, S>(simd, weights, self.values, at, out, self.width);
            at += 2 * lanes;
        }
        while at + lanes <= start + head {
            mix::<N, 1, S>(simd, weights, self.values, at, out, self.width);
            at += lanes;
        }
        for at in at..start + head {
            mix::<N, 1, pulp::Scalar>(pulp::Scalar::new(), weights, self.values, at, out, self.width);
        }
    }
}

/// Inner products of queries with the transposed keys of a head, `weights [N, padded]`: sums go over the
/// head's channels in order, in registers of keys.
#[inline(always)]
fn scores<const N: usize, S: Simd>(
    simd: S,
    queries: [&[f32]; N],
    keys: &[f32],
    padded: usize,
    weights: &mut [f32],
) {
    for at in (0..padded).step_by(S::F32_LANES) {
        let mut sums = [simd.splat_f32s(0.0); N];
        for (i, keys) in keys.chunks_exact(padded).enumerate() {
            let keys = S::as_simd_f32s(&keys[at..]).0[0];
            for n in 0..N {
                sums[n] = simd.mul_add_f32s(simd.splat_f32s(queries[n][i]), keys, sums[n]);
            }
        }
        for n in 0..N {
            S::as_mut_simd_f32s(&mut weights[n * padded + at..]).0[0] = sums[n];
        }
    }
}

/// Weighted sums of `C` registers of the values' channels from `at` on: over the keys in order.
#[inline(always)]
fn mix<const N: usize, const C: usize, S: Simd>(
    simd: S,
    weights: [&[f32]; N],
    values: Strided,
    at: usize,
    out: &mut [f32],
    width: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); C]; N];
    let keys = 0..weights[0].len();
    for (key, values) in keys.map(|key| values.at(key, at, C * S::F32_LANES)).enumerate() {
        let values = S::as_simd_f32s(values).0;
        for n in 0..N {
            let weight = simd.splat_f32s(weights[n][key]);
            for c in 0..C {
                sums[n][c] = simd.mul_add_f32s(weight, values[c], sums[n][c]);
            }
        }
    }
    for n in 0..N {
        S::as_mut_simd_f32s(&mut out[n * width + at..]).0[..C].copy_from_slice(&sums[n]);
    }
}
