//! The best tokens of each row with their log-probabilities, straight out of the product with the
//! vocabulary's matrix: no more than a block of scores of a tile of rows exists at a time.

use std::cell::Cell;

use rayon::prelude::*;

use super::kernel::PANEL;
use super::norm::{max, sum_of_exp};
use super::{Buffer, PackedLinear, Rows};

/// Panels of a block: its scores for a tile of rows fit the first cache.
const BLOCK: usize = 16;

/// What is known of a row after some block: the largest scores, falling, with their tokens, and the sum of
/// exponentials relative to the first.
#[derive(Clone, Copy, Debug)]
struct Best<const N: usize> {
    tops: [(u32, f32); N],
    sum: f32,
}

impl<const N: usize> Best<N> {
    const NONE: Self = Self { tops: [(0, f32::NEG_INFINITY); N], sum: 0.0 };
}

thread_local! {
    /// Kept between calls, taken while in use.
    static SCORES: Cell<Buffer> = Cell::default();
}

impl PackedLinear {
    /// For each row: the best token among those from `forbidden` upwards (specials are the lowest
    /// ids) and its log-probability among them. Ties go to the lower id.
    pub fn best_tokens(&self, rows: &Rows, forbidden: usize, threads: usize) -> Vec<(u32, f32)> {
        self.top_tokens::<1>(rows, forbidden, threads).into_iter().flatten().collect()
    }

    /// For each row the N best tokens, best first, as [`Self::best_tokens`] has the best, to the bit. Where there are
    /// fewer, the rest have log-probabilities of minus infinity.
    ///
    /// Where there is more than one of the `threads`, those of the caller's rayon pool share the blocks of the
    /// vocabulary. A block's numbers do not depend on who computes it, and they are put together in the order
    /// of the blocks.
    pub fn top_tokens<const N: usize>(
        &self,
        rows: &Rows,
        forbidden: usize,
        threads: usize,
    ) -> Vec<[(u32, f32); N]> {
        let (panels, count) = (self.outputs().div_ceil(PANEL), rows.count());
        if count == 0 {
            return Vec::new();
        }
        let block = |index: usize, best: &mut [Best<N>]| {
            let panels = index * BLOCK..panels.min((index + 1) * BLOCK);
            let first = panels.start * PANEL;
            let columns = forbidden.saturating_sub(first)..(self.outputs() - first).min(panels.len() * PANEL);
            let mut buffer = SCORES.take();
            for (row, height) in rows.tiles() {
                let width = panels.len() * PANEL;
                let scores = buffer.take(height * width);
                self.tile(rows, (row, height), panels.clone(), scores);
                for (best, scores) in best[row..].iter_mut().zip(scores.chunks_exact_mut(width)) {
                    let scores = scores.get_mut(columns.clone()).unwrap_or_default();
                    *best = pulp::Arch::new().dispatch(BestOf { scores, first: first + columns.start });
                }
            }
            SCORES.set(buffer);
        };
        // Of each block, each row.
        let mut parts = vec![Best::NONE; panels.div_ceil(BLOCK) * count];
        if threads == 1 {
            parts.chunks_exact_mut(count).enumerate().for_each(|(index, best)| block(index, best));
        } else {
            let parts = parts.par_chunks_exact_mut(count).with_max_len(1).enumerate();
            parts.for_each(|(index, best)| block(index, best));
        }
        (0..count).map(|row| merge(parts[row..].iter().step_by(count))).collect()
    }
}

/// Finds the best of the scores of the tokens from `first` on, and forgets each that it has found. A type of its own,
/// not a closure, so that it is inlined into the dispatch.
struct BestOf<'a, const N: usize> {
    scores: &'a mut [f32],
    first: usize,
}

impl<const N: usize> pulp::NullaryFnOnce for BestOf<'_, N> {
    type Output = Best<N>;

    #[inline(always)]
    fn call(self) -> Best<N> {
        let Self { scores, first } = self;
        let mut best = Best::NONE;
        for found in 0..N {
            let top = max(scores);
            if top == f32::NEG_INFINITY {
                break;
            }
            if found == 0 {
                best.sum = sum_of_exp(scores, top);
            }
            let at = position(scores, top);
            best.tops[found] = ((first + at) as u32, top);
            if found + 1 < N {
                scores[at] = f32::NEG_INFINITY;
            }
        }
        best
    }
}

/// Where `value` stands first; 0 if nowhere. Whole registers at a time: a search that may stop at every
/// value is not vectorised.
#[inline(always)]
fn position(values: &[f32], value: f32) -> usize {
    const MANY: usize = 32;
    let found = |part: &[f32]| part.iter().fold(false, |found, &v| found | (v == value));
    let start = values.chunks(MANY).position(found).unwrap_or(0) * MANY;
    let within = values[start.min(values.len())..].iter().position(|&v| v == value);
    start + within.unwrap_or(0)
}

/// In the order of the blocks: the first of equal scores stays in front.
fn merge<'a, const N: usize>(parts: impl Iterator<Item = &'a Best<N>> + Clone) -> [(u32, f32); N] {
    let mut best = Best::<N>::NONE.tops;
    for &(token, score) in parts.clone().flat_map(|part| &part.tops) {
        let at = best.partition_point(|&(_, better)| better >= score);
        if at < N && score > f32::NEG_INFINITY {
            best[at..].rotate_right(1);
            best[at] = (token, score);
        }
    }
    let top = best[0].1;
    let sum: f32 = parts.map(|part| part.sum * (part.tops[0].1 - top).exp()).sum();
    let log_sum = sum.ln();
    best.map(|(token, score)| (token, score - top - log_sum))
}
