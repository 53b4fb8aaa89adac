//! The best tokens of each row with their log-probabilities, straight out of the product with the
//! vocabulary's matrix: no more than a block of scores of a tile of rows exists at a time.

use std::cell::Cell;

use rayon::prelude::*;

use super::kernel::PANEL;
use super::norm::{max, sum_of_exp};
use super::{Buffer, PackedLinear, Rows};

/// Panels of a block: its scores for a tile of rows fit the first cache.
const BLOCK: usize = 16;

/// Of the scores of a block for a row: the largest, and the sum of exponentials relative to it.
#[derive(Clone, Copy, Debug)]
struct Mass {
    peak: f32,
    sum: f32,
}

/// The best N of the scores seen so far, falling, with their tokens. Of equal scores those that were seen first.
type Top<const N: usize> = [(u32, f32); N];

const NONE: (u32, f32) = (0, f32::NEG_INFINITY);

/// Of the threads that share a vocabulary, each takes so many runs of blocks: the fewer, the sooner a block has
/// nothing better than what was seen before it; the more, the less one thread waits for another.
const RUNS: usize = 2;

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
        let block = |index: usize, masses: &mut [Mass], tops: &mut [Top<N>]| {
            let panels = index * BLOCK..panels.min((index + 1) * BLOCK);
            let first = panels.start * PANEL;
            let columns = forbidden.saturating_sub(first)..(self.outputs() - first).min(panels.len() * PANEL);
            let mut buffer = SCORES.take();
            for (row, height) in rows.tiles() {
                let width = panels.len() * PANEL;
                let scores = buffer.take(height * width);
                self.tile(rows, (row, height), panels.clone(), scores);
                let rows = masses[row..].iter_mut().zip(&mut tops[row..]);
                for ((mass, top), scores) in rows.zip(scores.chunks_exact_mut(width)) {
                    let scores = scores.get_mut(columns.clone()).unwrap_or_default();
                    *mass = pulp::Arch::new().dispatch(BestOf { scores, first: first + columns.start, top });
                }
            }
            SCORES.set(buffer);
        };
        let blocks = panels.div_ceil(BLOCK);
        let run = if threads == 1 { blocks } else { blocks.div_ceil(threads * RUNS) };
        // Of each block, each row; of each run of blocks, each row.
        let mut masses = vec![Mass { peak: f32::NEG_INFINITY, sum: 0.0 }; blocks * count];
        let mut tops = vec![[NONE; N]; blocks.div_ceil(run) * count];
        let one_run = |(index, (masses, top)): (usize, (&mut [Mass], &mut [Top<N>]))| {
            for (block_of_run, masses) in masses.chunks_exact_mut(count).enumerate() {
                block(index * run + block_of_run, masses, top);
            }
        };
        if threads == 1 {
            one_run((0, (&mut masses, &mut tops)));
        } else {
            let runs = masses.par_chunks_mut(run * count).zip(tops.par_chunks_exact_mut(count));
            runs.with_max_len(1).enumerate().for_each(one_run);
        }
        let row =
            |row| log_probs(merge(tops[row..].iter().step_by(count)), masses[row..].iter().step_by(count));
        (0..count).map(row).collect()
    }
}

/// Puts the scores of the tokens from `first` on among the best that were seen before. Looks no further than they are
/// better than the last of these, and forgets each that it has found. A type of its own, not a closure, so that
/// it is inlined into the dispatch.
struct BestOf<'a, const N: usize> {
    scores: &'a mut [f32],
    first: usize,
    top: &'a mut Top<N>,
}

impl<const N: usize> pulp::NullaryFnOnce for BestOf<'_, N> {
    type Output = Mass;

    #[inline(always)]
    fn call(self) -> Mass {
        let Self { scores, first, top } = self;
        let peak = max(scores);
        let mass = Mass { peak, sum: if peak == f32::NEG_INFINITY { 0.0 } else { sum_of_exp(scores, peak) } };
        let mut best = peak;
        for found in 1..=N {
            if best <= top[N - 1].1 {
                break;
            }
            let at = position(scores, best);
            insert(top, ((first + at) as u32, best));
            if found < N {
                scores[at] = f32::NEG_INFINITY;
                best = max(scores);
            }
        }
        mass
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

/// One of the best N where it is better than the last of them, behind all that are as good.
#[inline(always)]
fn insert<const N: usize>(top: &mut Top<N>, found: (u32, f32)) {
    let at = top.partition_point(|&(_, better)| better >= found.1);
    if at < N {
        top[at..].rotate_right(1);
        top[at] = found;
    }
}

/// In the order of the runs: the first of equal scores stays in front.
fn merge<'a, const N: usize>(runs: impl Iterator<Item = &'a Top<N>>) -> Top<N> {
    let mut top = [NONE; N];
    runs.flatten().for_each(|&found| insert(&mut top, found));
    top
}

fn log_probs<'a, const N: usize>(top: Top<N>, blocks: impl Iterator<Item = &'a Mass>) -> [(u32, f32); N] {
    let peak = top[0].1;
    let sum: f32 = blocks.map(|block| block.sum * (block.peak - peak).exp()).sum();
    let log_sum = sum.ln();
    top.map(|(token, score)| (token, score - peak - log_sum))
}
