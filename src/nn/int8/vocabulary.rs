//! The best token of each row with its log-probability, straight out of the product with the
//! vocabulary's matrix: no more than a block of scores of a tile of rows exists at a time.

use std::cell::Cell;

use rayon::prelude::*;

use super::kernel::PANEL;
use super::norm::{max, sum_of_exp};
use super::{Buffer, PackedLinear, Rows};

/// Panels of a block: its scores for a tile of rows fit the first cache.
const BLOCK: usize = 16;

/// What is known of a row after some block: the largest score, where it stands, and the sum of
/// exponentials relative to it.
#[derive(Clone, Copy, Debug)]
struct Best {
    top: f32,
    token: u32,
    sum: f32,
}

const NONE: Best = Best { top: f32::NEG_INFINITY, token: 0, sum: 0.0 };

thread_local! {
    /// Kept between calls, taken while in use.
    static SCORES: Cell<Buffer> = Cell::default();
}

impl PackedLinear {
    /// For each row: the best token among those from `forbidden` upwards (specials are the lowest
    /// ids) and its log-probability among them. Ties go to the lower id.
    ///
    /// Where there is more than one of the `threads`, those of the caller's rayon pool share the blocks of the
    /// vocabulary. A block's numbers do not depend on who computes it, and they are put together in the order
    /// of the blocks.
    pub fn best_tokens(&self, rows: &Rows, forbidden: usize, threads: usize) -> Vec<(u32, f32)> {
        let (panels, count) = (self.outputs().div_ceil(PANEL), rows.count());
        if count == 0 {
            return Vec::new();
        }
        let block = |index: usize, best: &mut [Best]| {
            let panels = index * BLOCK..panels.min((index + 1) * BLOCK);
            let first = panels.start * PANEL;
            let columns = forbidden.saturating_sub(first)..(self.outputs() - first).min(panels.len() * PANEL);
            let mut buffer = SCORES.take();
            for (row, height) in rows.tiles() {
                let width = panels.len() * PANEL;
                let scores = buffer.take(height * width);
                self.tile(rows, (row, height), panels.clone(), scores);
                for (best, scores) in best[row..].iter_mut().zip(scores.chunks_exact(width)) {
                    let scores = scores.get(columns.clone()).unwrap_or_default();
                    *best = pulp::Arch::new().dispatch(BestOf { scores, first: first + columns.start });
                }
            }
            SCORES.set(buffer);
        };
        // Of each block, each row.
        let mut parts = vec![NONE; panels.div_ceil(BLOCK) * count];
        if threads == 1 {
            parts.chunks_exact_mut(count).enumerate().for_each(|(index, best)| block(index, best));
        } else {
            let parts = parts.par_chunks_exact_mut(count).with_max_len(1).enumerate();
            parts.for_each(|(index, best)| block(index, best));
        }
        (0..count).map(|row| merge(parts[row..].iter().step_by(count))).collect()
    }
}

/// Finds the best of the scores of the tokens from `first` on. A type of its own,
/// not a closure, so that it is inlined into the dispatch.
struct BestOf<'a> {
    scores: &'a [f32],
    first: usize,
}

impl pulp::NullaryFnOnce for BestOf<'_> {
    type Output = Best;

    #[inline(always)]
    fn call(self) -> Best {
        let Self { scores, first } = self;
        let top = max(scores);
        let at = position(scores, top);
        let sum = if top == f32::NEG_INFINITY { 0.0 } else { sum_of_exp(scores, top) };
        Best { top, token: (first + at) as u32, sum }
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

/// In the order of the blocks: the first of equal scores stays.
fn merge<'a>(parts: impl Iterator<Item = &'a Best> + Clone) -> (u32, f32) {
    let best = parts.clone().fold(NONE, |best, part| if part.top > best.top { *part } else { best });
    let sum: f32 = parts.map(|part| part.sum * (part.top - best.top).exp()).sum();
    (best.token, -sum.ln())
}
