//! What the student is to give in one pass: the teacher's answer after n passes over the same canvas.
//!
//! Mask-predict over a fixed set M of places: each pass rewrites all of M, then masks the least certain
//! again, fewer each time and none before the end. So each pass but the first reads what the one before
//! was sure of. Pure but for the passes themselves.

use candle_core::Tensor;

use crate::Result;
use crate::model::{Network, Padded};
use crate::nn::{Mode, ops};
use crate::train::masking::Masked;
use crate::train::objective::Batch;

/// The last of n teacher passes, at the masked places.
pub struct Targets {
    /// `[places, vocab]`
    pub logits: Tensor,
    /// Last decoder states: `[places, d]`
    pub hidden: Tensor,
}

impl Targets {
    /// `masked` are the rows of `batch`; `passes` is n and counts as at least 1.
    pub fn of(
        teacher: &Network,
        batch: &Batch,
        masked: &[Masked],
        passes: usize,
        mode: &Mode,
    ) -> Result<Self> {
        let specials = teacher.specials();
        let states = teacher.encode(&batch.source, mode)?;
        let memory = teacher.memory(&states, &batch.source.lengths, mode)?;
        let mut canvases: Vec<Vec<u32>> = masked.iter().map(|m| m.canvas.clone()).collect();
        let mut pass = 1;
        loop {
            let canvas = Padded::new(canvases.iter().map(Vec::as_slice), specials.pad, teacher.device())?;
            let decoded = teacher.decode(&canvas, &memory, mode)?;
            let hidden = teacher.select(&decoded, batch.places.clone())?;
            let logits = teacher.logits(&hidden, mode)?;
            if pass >= passes {
                return Ok(Self { logits, hidden });
            }
            let best = ops::best_tokens(&logits, teacher.forbidden())?;
            let mut rest = best.as_slice();
            for (canvas, m) in canvases.iter_mut().zip(masked) {
                let (own, after) = rest.split_at(m.positions.len());
                let left = masks_left(m.positions.len(), pass, passes);
                refresh(canvas, &m.positions, own, left, specials.mask);
                rest = after;
            }
            pass += 1;
        }
    }
}

/// How many of m masked places are masked again after pass j of n: r_j = ⌈(n − j)·m / n⌉, so r_n = 0.
fn masks_left(masked: usize, pass: usize, passes: usize) -> usize {
    (masked * passes.saturating_sub(pass)).div_ceil(passes.max(1))
}

/// Writes `best` (token, log-probability) to `positions`, then `mask` to the `left` places of lowest
/// log-probability, ties to the lower place.
fn refresh(canvas: &mut [u32], positions: &[u32], best: &[(u32, f32)], left: usize, mask: u32) {
    for (&position, &(token, _)) in positions.iter().zip(best) {
        canvas[position as usize] = token;
    }
    let mut by_score: Vec<usize> = (0..positions.len().min(best.len())).collect();
    by_score.sort_by(|&a, &b| best[a].1.total_cmp(&best[b].1)); // stable: ties stay ascending
    for &i in by_score.iter().take(left) {
        canvas[positions[i] as usize] = mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_that_are_left_follow_the_closed_form() {
        for masked in 0..=64usize {
            for passes in 1..=8usize {
                for pass in 1..=passes {
                    let want = ((passes - pass) as f64 * masked as f64 / passes as f64).ceil();
                    let got = masks_left(masked, pass, passes);
                    assert_eq!(got as f64, want, "m = {masked}, n = {passes}, j = {pass}");
                    assert!(got <= masks_left(masked, pass - 1, passes));
                }
                assert_eq!(masks_left(masked, 0, passes), masked);
                assert_eq!(masks_left(masked, passes, passes), 0);
            }
        }
        assert_eq!(masks_left(5, 1, 2), 3);
        assert_eq!(masks_left(1, 1, 2), 1, "a single mask stands until the last pass");
    }

    #[test]
    fn every_masked_place_is_rewritten_and_the_least_certain_are_masked_again() {
        const MASK: u32 = 4;
        let mut canvas = [1, MASK, 11, MASK, 77, MASK, 2];
        // 77 was written by the pass before; it belongs to the masked set all the same.
        refresh(&mut canvas, &[1, 3, 4, 5], &[(20, -0.5), (21, -2.0), (22, -0.1), (23, -2.0)], 1, MASK);
        assert_eq!(canvas, [1, 20, 11, MASK, 22, 23, 2]);
        refresh(&mut canvas, &[1, 3, 4, 5], &[(30, -3.0), (31, -1.0), (32, -2.0), (33, -2.5)], 3, MASK);
        assert_eq!(canvas, [1, MASK, 11, 31, MASK, MASK, 2]);
    }
}
