//! Attention in f32 from some queries of one sentence to all its keys, over slices.
//!
//! Keys come transposed, so that scores are products of whole registers without horizontal sums, and
//! padded to [`KEYS`] with zeros, which get no weight. Four queries share what is loaded.

use super::norm::{exp_all, max};

/// Keys of one register of scores.
const KEYS: usize = 16;
/// Values of one register of results; a head's width is a multiple of it.
const LANES: usize = 8;
/// Queries that are computed together.
const GROUP: usize = 4;

/// Vectors at equal distances in a buffer: vector `i` starts at `i · stride`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> Strided<'a> {
    #[inline(always)]
    fn at(self, index: usize, offset: usize, width: usize) -> &'a [f32] {
        &self.data[index * self.stride + offset..][..width]
    }
}

/// The number of keys with their padding.
pub fn padded_keys(keys: usize) -> usize {
    keys.next_multiple_of(KEYS)
}

/// `keys` vectors of `width` values → `out [width, padded_keys]`.
pub fn transpose_keys(from: Strided, keys: usize, width: usize, out: &mut [f32]) {
    let padded = padded_keys(keys);
    let out = &mut out[..width * padded];
    for start in (0..padded).step_by(KEYS) {
        let some = keys.min(start + KEYS) - start;
        for (i, row) in out.chunks_exact_mut(padded).enumerate() {
            let row = &mut row[start..][..KEYS];
            for (key, slot) in row.iter_mut().enumerate() {
                *slot = if key < some { from.data[(start + key) * from.stride + i] } else { 0.0 };
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
    pub fn attend(&self, queries: Strided, count: usize, weights: &mut Vec<f32>, out: &mut [f32]) {
        let padded = padded_keys(self.keys);
        weights.resize(GROUP * padded, 0.0);
        let weights = &mut weights[..GROUP * padded];
        pulp::Arch::new().dispatch(Attend { of: *self, queries, count, weights, out });
    }
}

/// A call of [`Attention::attend`]. A closure of this size would not be inlined into the dispatch, hence
/// compiled without the CPU's instructions: a fused multiply-add would be a call of a library.
struct Attend<'a> {
    of: Attention<'a>,
    queries: Strided<'a>,
    count: usize,
    weights: &'a mut [f32],
    out: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of, queries, count, weights, out } = self;
        let head = of.width / of.heads;
        for start in (0..of.width).step_by(head) {
            for first in (0..count).step_by(GROUP) {
                let out = &mut out[first * of.width..];
                match count - first {
                    1 => of.group::<1>(queries, first, start, weights, out),
                    2 => of.group::<2>(queries, first, start, weights, out),
                    3 => of.group::<3>(queries, first, start, weights, out),
                    _ => of.group::<GROUP>(queries, first, start, weights, out),
                }
            }
        }
    }
}

impl Attention<'_> {
    /// `N` queries from `first` on, the head that starts at `start`.
    #[inline(always)]
    fn group<const N: usize>(
        &self,
        queries: Strided,
        first: usize,
        start: usize,
        weights: &mut [f32],
        out: &mut [f32],
    ) {
        let (head, padded) = (self.width / self.heads, padded_keys(self.keys));
        let scale = (head as f32).powf(-0.5);
        let queries: [&[f32]; N] = std::array::from_fn(|n| queries.at(first + n, start, head));
        let keys = &self.keys_transposed[start * padded..][..head * padded];
        for column in (0..padded).step_by(KEYS) {
            let mut scores = [[0f32; KEYS]; N];
            for (i, keys) in keys.chunks_exact(padded).enumerate() {
                let keys = &keys[column..][..KEYS];
                for n in 0..N {
                    let query = queries[n][i];
                    for k in 0..KEYS {
                        scores[n][k] = query.mul_add(keys[k], scores[n][k]);
                    }
                }
            }
            for n in 0..N {
                for k in 0..KEYS {
                    let real = column + k < self.keys;
                    weights[n * padded + column + k] =
                        if real { scores[n][k] * scale } else { f32::NEG_INFINITY };
                }
            }
        }
        let mut factors = [0f32; N];
        for n in 0..N {
            let weights = &mut weights[n * padded..][..padded];
            let top = max(weights);
            factors[n] = 1.0 / exp_all(weights, top);
        }
        let mut column = 0;
        while column + 2 * LANES <= head {
            self.mix::<N, { 2 * LANES }>(start + column, weights, &factors, out);
            column += 2 * LANES;
        }
        if column < head {
            self.mix::<N, LANES>(start + column, weights, &factors, out);
        }
    }

    /// Weighted sums of `W` columns of the values.
    #[inline(always)]
    fn mix<const N: usize, const W: usize>(
        &self,
        column: usize,
        weights: &[f32],
        factors: &[f32; N],
        out: &mut [f32],
    ) {
        let padded = padded_keys(self.keys);
        let mut sums = [[0f32; W]; N];
        for key in 0..self.keys {
            let values = self.values.at(key, column, W);
            for n in 0..N {
                let weight = weights[n * padded + key];
                for i in 0..W {
                    sums[n][i] = weight.mul_add(values[i], sums[n][i]);
                }
            }
        }
        for n in 0..N {
            let out = &mut out[n * self.width + column..][..W];
            for i in 0..W {
                out[i] = sums[n][i] * factors[n];
            }
        }
    }
}
