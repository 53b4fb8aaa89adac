//! The best token of each row with its log-probability, straight out of the product with the
//! vocabulary's matrix: no more than a block of scores of a tile of rows exists at a time.

use std::cell::Cell;

use rayon::prelude::*;

use super::kernel::{PANEL, TILE};
use super::norm::{exp_all, max};
use super::{PackedLinear, Rows};

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

thread_local! {
    /// Kept between calls, taken while in use.
    static SCORES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl PackedLinear {
    /// For each row: the best token among those from `forbidden` upwards (specials are the lowest
    /// ids) and its log-probability among them. Ties go to the lower id.
    ///
    /// Threads of the caller's rayon pool share the blocks of the vocabulary. A block's numbers do
    /// not depend on who computes it, and they are put together in the order of the blocks.
    pub fn best_tokens(&self, rows: &Rows, forbidden: usize) -> Vec<(u32, f32)> {
        let panels = self.outputs().div_ceil(PANEL);
        let block = |index: usize| {
            let panels = index * BLOCK..panels.min((index + 1) * BLOCK);
            let columns = forbidden.saturating_sub(panels.start * PANEL)
                ..(self.outputs() - panels.start * PANEL).min(panels.len() * PANEL);
            let mut scores = SCORES.take();
            scores.resize(TILE * BLOCK * PANEL, 0.0);
            let mut best = Vec::with_capacity(rows.count());
            for (first, height) in rows.tiles() {
                let width = panels.len() * PANEL;
                let scores = &mut scores[..height * width];
                self.tile(rows, (first, height), panels.clone(), scores);
                pulp::Arch::new().dispatch(|| {
                    best.extend(scores.chunks_exact_mut(width).map(|row| {
                        let allowed = row.get_mut(columns.clone()).unwrap_or_default();
                        best_of(allowed, panels.start * PANEL + columns.start)
                    }));
                });
            }
            SCORES.set(scores);
            best
        };
        let blocks = panels.div_ceil(BLOCK);
        let parts: Vec<Vec<Best>> = if rayon::current_num_threads() == 1 {
            (0..blocks).map(block).collect()
        } else {
            (0..blocks).into_par_iter().with_max_len(1).map(block).collect()
        };
        (0..rows.count()).map(|row| merge(parts.iter().map(|part| part[row]))).collect()
    }
}

/// Overwrites `scores`, which are those of the tokens from `first` on.
#[inline(always)]
fn best_of(scores: &mut [f32], first: usize) -> Best {
    let top = max(scores);
    let at = scores.iter().position(|&v| v == top).unwrap_or(0);
    let sum = if top == f32::NEG_INFINITY { 0.0 } else { exp_all(scores, top) };
    Best { top, token: (first + at) as u32, sum }
}

/// In the order of the blocks: the first of equal scores stays.
fn merge(parts: impl Iterator<Item = Best> + Clone) -> (u32, f32) {
    let none = Best { top: f32::NEG_INFINITY, token: 0, sum: 0.0 };
    let best = parts.clone().fold(none, |best, part| if part.top > best.top { part } else { best });
    let sum: f32 = parts.map(|part| part.sum * (part.top - best.top).exp()).sum();
    (best.token, -sum.ln())
}
