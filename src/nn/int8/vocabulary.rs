//! Finds the best tokens of each row, with their log-probabilities, during the product with the vocabulary matrix.
//! Only one block of scores of a tile of rows exists at a time.

use std::cell::Cell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::kernel::{PANEL, arch};
use super::lanes::{Max, fold};
use super::norm::ExpFrom;
use super::{Buffer, PackedLinear, Rows};

/// Panels of a block: its scores for fourteen rows fit the first-level cache, for 32 rows (AMX) the second-level one. The
/// bits of the result depend on it, so it is the same on every CPU.
const BLOCK: usize = 16;

/// The largest score of a row in a block, and the sum of exponentials relative to it.
#[derive(Clone, Copy, Debug)]
struct Mass {
    peak: f32,
    sum: f32,
}

/// The N best scores so far with their tokens, best first. Of equal scores the first one seen stays ahead.
type Top<const N: usize> = [(u32, f32); N];

const NONE: (u32, f32) = (0, f32::NEG_INFINITY);

/// Number of runs of blocks for each thread. With fewer runs, blocks are compared with better scores and skipped
/// earlier; with more, threads wait less for each other.
const RUNS: usize = 2;

thread_local! {
    /// Reused between calls; taken out while in use.
    static SCORES: Cell<Buffer> = Cell::default();
}

impl PackedLinear {
    /// Returns, for each row, the best token from `forbidden` upwards (special tokens have the lowest ids) and its
    /// log-probability among them. Ties go to the lower id.
    pub fn best_tokens(&self, rows: &Rows, forbidden: usize, threads: usize) -> Vec<(u32, f32)> {
        self.top_tokens::<1>(rows, forbidden, threads).into_iter().flatten().collect()
    }

    /// Like [`Self::best_tokens`], with the N best tokens of each row, best first. If there are fewer tokens, the
    /// rest have log-probabilities of minus infinity.
    ///
    /// With several `threads`, the caller's rayon pool shares the blocks of the vocabulary. The result does not
    /// depend on which thread computes a block, because blocks are merged in order.
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
                    *mass = arch().dispatch(BestOf { scores, first: first + columns.start, top });
                }
            }
            SCORES.set(buffer);
        };
        let blocks = panels.div_ceil(BLOCK);
        let run = if threads == 1 { blocks } else { blocks.div_ceil(threads * RUNS) };
        // Masses are [block, row], tops are [run, row].
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

/// Merges the scores of the tokens from `first` on into the best ones so far. Searches only while scores beat the
/// last of these, and clears each score that it has taken. A separate type, not a closure, so that it is inlined into
/// the dispatch.
struct BestOf<'a, const N: usize> {
    scores: &'a mut [f32],
    first: usize,
    top: &'a mut Top<N>,
}

impl<const N: usize> WithSimd for BestOf<'_, N> {
    type Output = Mass;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Mass {
        let Self { scores, first, top } = self;
        let peak = fold(simd, Max, scores);
        let mass = Mass {
            peak,
            sum: if peak == f32::NEG_INFINITY { 0.0 } else { fold(simd, ExpFrom(peak), scores) },
        };
        let mut best = peak;
        for found in 1..=N {
            if best <= top[N - 1].1 {
                break;
            }
            let at = position(scores, best);
            insert(top, ((first + at) as u32, best));
            if found < N {
                scores[at] = f32::NEG_INFINITY;
                best = fold(simd, Max, scores);
            }
        }
        mass
    }
}

/// Index of the first `value`; 0 if there is none. Compares whole chunks, because a search that may stop at every
/// value is not vectorized.
#[inline(always)]
fn position(values: &[f32], value: f32) -> usize {
    const MANY: usize = 32;
    let found = |part: &[f32]| part.iter().fold(false, |found, &v| found | (v == value));
    let start = values.chunks(MANY).position(found).unwrap_or(0) * MANY;
    let within = values[start.min(values.len())..].iter().position(|&v| v == value);
    start + within.unwrap_or(0)
}

/// Inserts `found` if it beats the last of the N best, after all that are equal.
#[inline(always)]
fn insert<const N: usize>(top: &mut Top<N>, found: (u32, f32)) {
    let at = top.partition_point(|&(_, better)| better >= found.1);
    if at < N {
        top[at..].rotate_right(1);
        top[at] = found;
    }
}

/// Merges in the order of the runs, so that the first of equal scores stays ahead.
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
