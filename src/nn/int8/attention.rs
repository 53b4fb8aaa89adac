//! Attention in f32 from several queries of one sentence to all its keys.
//!
//! Sixteen queries are transposed into the lanes of registers. So a softmax over the keys needs no sum across lanes,
//! keys need no padding, and keys and values are read from where a product wrote them. Each sum adds its terms in
//! order with fused multiply-adds, so neither the register width nor the other queries change a bit of the result.

use pulp::Simd;

use super::Buffer;
use super::kernel::arch;
use super::lanes::LANES;
use super::norm::softmax;

/// Number of keys scored, or queries mixed, at once: their sums stay in registers.
const GROUP: usize = 7;

/// Equally spaced vectors in a buffer: vector `i` starts at `i · stride`.
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

/// The keys and values of one sentence.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    pub width: usize,
    pub heads: usize,
    /// Number of keys and of values.
    pub len: usize,
    pub keys: Strided<'a>,
    pub values: Strided<'a>,
}

/// Scratch memory of [`Attention::attend`].
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// Sixteen queries, `[width, LANES]`.
    queries: Buffer,
    /// The attention weights of one head, `[len, LANES]`.
    weights: Buffer,
}

impl Attention<'_> {
    /// Computes softmax(Q · Kᵀ / √head) · V (Vaswani et al. 2017) for `count` queries, into `out [count, width]`.
    pub fn attend(&self, queries: Strided, count: usize, scratch: &mut AttentionScratch, out: &mut [f32]) {
        self.run(queries, count, None, scratch, out);
    }

    /// Like [`attend`](Self::attend), but query `i` attends only to the first `seen[i]` keys, at least one. There are
    /// as many queries as `seen` has entries.
    pub fn attend_to_first(
        &self,
        queries: Strided,
        seen: &[usize],
        scratch: &mut AttentionScratch,
        out: &mut [f32],
    ) {
        self.run(queries, seen.len(), Some(seen), scratch, out);
    }

    fn run(
        &self,
        queries: Strided,
        count: usize,
        seen: Option<&[usize]>,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
    ) {
        let transposed = scratch.queries.take(self.width * LANES).as_chunks_mut().0;
        let weights = scratch.weights.take(self.len * LANES).as_chunks_mut().0;
        arch().dispatch(Attend { of: *self, queries, count, seen, transposed, weights, out });
    }
}

/// A call of [`Attention::attend`].
pub(super) struct Attend<'a> {
    pub(super) of: Attention<'a>,
    pub(super) queries: Strided<'a>,
    pub(super) count: usize,
    /// Number of keys that each query attends to; `None` for all.
    pub(super) seen: Option<&'a [usize]>,
    pub(super) transposed: &'a mut [[f32; LANES]],
    pub(super) weights: &'a mut [[f32; LANES]],
    pub(super) out: &'a mut [f32],
}

impl pulp::WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { of, queries, count, seen, transposed, weights, out } = self;
        let head = of.width / of.heads;
        let scale = (head as f32).powf(-0.5);
        for first in (0..count).step_by(LANES) {
            let some = LANES.min(count - first);
            transpose(queries.from(first), some, scale, transposed);
            for start in (0..of.width).step_by(head) {
                let queries = &transposed[start..][..head];
                for key in (0..of.len).step_by(GROUP) {
                    let keys = |n: usize| of.keys.at(key + n, start, head);
                    let weights = &mut weights[key..];
                    match of.len - key {
                        1 => scores::<1, S>(simd, queries, keys, weights),
                        2 => scores::<2, S>(simd, queries, keys, weights),
                        3 => scores::<3, S>(simd, queries, keys, weights),
                        4 => scores::<4, S>(simd, queries, keys, weights),
                        5 => scores::<5, S>(simd, queries, keys, weights),
                        6 => scores::<6, S>(simd, queries, keys, weights),
                        _ => scores::<GROUP, S>(simd, queries, keys, weights),
                    }
                }
                let hidden = seen.map(|seen| &seen[first..first + some]);
                fill_hidden(weights, hidden, f32::NEG_INFINITY);
                softmax(simd, weights);
                // `softmax` leaves hidden keys a tiny weight, because its exponential has a lower bound.
                fill_hidden(weights, hidden, 0.0);
                for query in (0..some).step_by(GROUP) {
                    let out = &mut out[(first + query) * of.width + start..];
                    match some - query {
                        1 => of.mix_head::<1, S>(simd, weights, query, start, out),
                        2 => of.mix_head::<2, S>(simd, weights, query, start, out),
                        3 => of.mix_head::<3, S>(simd, weights, query, start, out),
                        4 => of.mix_head::<4, S>(simd, weights, query, start, out),
                        5 => of.mix_head::<5, S>(simd, weights, query, start, out),
                        6 => of.mix_head::<6, S>(simd, weights, query, start, out),
                        _ => of.mix_head::<GROUP, S>(simd, weights, query, start, out),
                    }
                }
            }
        }
    }
}

/// Sets the weights of hidden keys to `value`, for the queries in the first lanes.
#[inline(always)]
fn fill_hidden(weights: &mut [[f32; LANES]], seen: Option<&[usize]>, value: f32) {
    for (lane, &seen) in seen.unwrap_or_default().iter().enumerate() {
        weights.iter_mut().skip(seen).for_each(|weights| weights[lane] = value);
    }
}

/// Writes `count` vectors times `scale`, transposed, to `out [width, LANES]`, in blocks of four by four. Other lanes
/// become zero.
#[inline(always)]
fn transpose(from: Strided, count: usize, scale: f32, out: &mut [[f32; LANES]]) {
    const SIDE: usize = 4;
    let vector = |i: usize| if i < count { from.at(i, 0, out.len()) } else { &[] };
    let vectors: [&[f32]; LANES] = std::array::from_fn(vector);
    for lane in (0..LANES).step_by(SIDE) {
        let squares: [&[[f32; SIDE]]; SIDE] = std::array::from_fn(|i| vectors[lane + i].as_chunks().0);
        for (i, rows) in out.chunks_mut(SIDE).enumerate() {
            let square = squares.map(|chunks| chunks.get(i).copied().unwrap_or_default());
            for (c, row) in rows.iter_mut().enumerate() {
                row[lane..][..SIDE].copy_from_slice(&square.map(|vector| vector[c] * scale));
            }
        }
    }
}

/// Inner products of `N` keys with all queries in one head, summed over its channels in order.
#[inline(always)]
fn scores<'a, const N: usize, S: Simd>(
    simd: S,
    queries: &[[f32; LANES]],
    keys: impl Fn(usize) -> &'a [f32],
    weights: &mut [[f32; LANES]],
) {
    let keys: [&[f32]; N] = std::array::from_fn(|n| &keys(n)[..queries.len()]);
    for at in (0..LANES).step_by(S::F32_LANES) {
        let mut sums = [simd.splat_f32s(0.0); N];
        for (i, queries) in queries.iter().enumerate() {
            let queries = S::as_simd_f32s(&queries[at..]).0[0];
            for n in 0..N {
                sums[n] = simd.mul_add_f32s(simd.splat_f32s(keys[n][i]), queries, sums[n]);
            }
        }
        for n in 0..N {
            S::as_mut_simd_f32s(&mut weights[n][at..]).0[0] = sums[n];
        }
    }
}

impl Attention<'_> {
    /// Results of `N` queries from lane `first` on, for the head that starts at channel `start`, into rows of `out
    /// [_, width]`.
    #[inline(always)]
    fn mix_head<const N: usize, S: Simd>(
        &self,
        simd: S,
        weights: &[[f32; LANES]],
        first: usize,
        start: usize,
        out: &mut [f32],
    ) {
        let (head, lanes) = (self.width / self.heads, S::F32_LANES);
        let mut at = 0;
        while at + 2 * lanes <= head {
            self.mix::<N, 2, S>(simd, weights, first, start + at, &mut out[at..]);
            at += 2 * lanes;
        }
        while at + lanes <= head {
            self.mix::<N, 1, S>(simd, weights, first, start + at, &mut out[at..]);
            at += lanes;
        }
        for at in at..head {
            self.mix::<N, 1, pulp::Scalar>(pulp::Scalar::new(), weights, first, start + at, &mut out[at..]);
        }
    }

    /// Weighted sums of `C` registers of value channels from `at` on, over the keys in order.
    #[inline(always)]
    fn mix<const N: usize, const C: usize, S: Simd>(
        &self,
        simd: S,
        weights: &[[f32; LANES]],
        first: usize,
        at: usize,
        out: &mut [f32],
    ) {
        let mut sums = [[simd.splat_f32s(0.0); C]; N];
        for (key, weights) in weights.iter().enumerate() {
            let values = S::as_simd_f32s(self.values.at(key, at, C * S::F32_LANES)).0;
            let weights = &weights[first..][..N];
            for n in 0..N {
                let weight = simd.splat_f32s(weights[n]);
                for c in 0..C {
                    sums[n][c] = simd.mul_add_f32s(weight, values[c], sums[n][c]);
                }
            }
        }
        for n in 0..N {
            S::as_mut_simd_f32s(&mut out[n * self.width..]).0[..C].copy_from_slice(&sums[n]);
        }
    }
}
