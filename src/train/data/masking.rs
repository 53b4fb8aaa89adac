//! Masking of training canvases: random masking of a target for a CMLM (Ghazvininejad et al. 2019), and of slots for
//! an Imputer (Saharia et al. 2020).
//!
//! For a target `bos x1..xL eos`: u ~ U[0, 1), and m = ⌊L·u + 1⌋ of the L inner positions are masked, uniformly. So
//! the number of masks is uniform in 1..=L; bos and eos are never masked.

use crate::text::Specials;
use crate::train::config::SlotMask;
use crate::train::rng::Rng;

/// A target, or slots that spell it, with some tokens masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The target or the slots, with masks at `positions`.
    pub canvas: Vec<u32>,
    /// The masked positions, ascending; never the first or last one of a target.
    pub positions: Vec<u32>,
    /// The masked tokens; empty for a canvas without a target.
    pub gold: Vec<u32>,
}

/// Masks 1..=L inner tokens of `target` (`bos x1..xL eos`); none if L = 0.
pub fn mask_target(target: &[u32], mask: u32, rng: &mut Rng) -> Masked {
    let inner = target.len().saturating_sub(2);
    let count = ((inner as f32 * rng.uniform() + 1.0) as usize).min(inner);
    mask_inner(target, mask, rng.sample(count, inner))
}

/// Masks ⌊L·u⌋ inner tokens of a translation, at least one; none if L = 0. For text that a teacher wrote itself, of
/// which a full mask would keep nothing (U-DiMS, Norouzi et al. 2023).
pub fn mask_translation(target: &[u32], mask: u32, rng: &mut Rng) -> Masked {
    let inner = target.len().saturating_sub(2);
    let count = ((inner as f32 * rng.uniform()) as usize).max(1);
    mask_inner(target, mask, rng.sample(count, inner))
}

/// Masks 1 + ⌊share·n·u⌋ of the n words of a source `bos x1..xn eos`, u ~ U[0, 1), uniformly; none if n = 0. Tokens
/// below `first_word` are not words (JM-NAT, Guo et al. 2020; code of CMLMC).
pub fn mask_source(source: &[u32], share: f64, mask: u32, first_word: u32, rng: &mut Rng) -> Masked {
    let inner = 0..source.len().saturating_sub(2);
    let words: Vec<usize> = inner.filter(|&i| source[i + 1] >= first_word).collect();
    let count = (share * words.len() as f64 * f64::from(rng.uniform())) as usize + 1;
    mask_inner(source, mask, rng.sample(count, words.len()).into_iter().map(|i| words[i]).collect())
}

/// Chooses ⌊share·|R|⌋ of the inner positions R that are not masked, uniformly, ascending. CMLMC replaces them by
/// predictions (Huang et al. 2022).
pub fn revealed(masked: &Masked, share: f64, rng: &mut Rng) -> Vec<u32> {
    let last = masked.canvas.len().saturating_sub(1) as u32;
    let revealed: Vec<u32> = (1..last).filter(|p| masked.positions.binary_search(p).is_err()).collect();
    let count = (share * revealed.len() as f64) as usize;
    rng.sample(count, revealed.len()).into_iter().map(|i| revealed[i]).collect()
}

/// Masks all inner tokens: the canvas that decoding starts from.
pub fn mask_all(target: &[u32], mask: u32) -> Masked {
    mask_inner(target, mask, (0..target.len().saturating_sub(2)).collect())
}

/// A canvas of `inner` masks without a target.
pub fn masks_only(inner: usize, specials: &Specials) -> Masked {
    let Specials { bos, eos, mask, .. } = *specials;
    let canvas = [&[bos], vec![mask; inner].as_slice(), &[eos]].concat();
    Masked { canvas, positions: (1..=inner as u32).collect(), gold: Vec::new() }
}

/// Chooses slots to mask, ascending; at least one if `count` > 0.
pub fn mask_slots(count: usize, kind: SlotMask, rng: &mut Rng) -> Vec<u32> {
    let ascending = |places: Vec<usize>| places.into_iter().map(|place| place as u32).collect();
    match kind {
        SlotMask::Full => (0..count as u32).collect(),
        SlotMask::Uniform => {
            let masked = ((count as f32 * rng.uniform() + 1.0) as usize).min(count);
            ascending(rng.sample(masked, count))
        }
        SlotMask::Block => {
            let block = [2, 4, 8, 16][rng.below(4)];
            let masked = 1 + rng.below(block);
            let mut places = Vec::with_capacity(count);
            for start in (0..count).step_by(block) {
                let slots = block.min(count - start);
                places.extend(rng.sample(masked.min(slots), slots).into_iter().map(|place| start + place));
            }
            ascending(places)
        }
    }
}

/// A canvas of an Imputer: `slots`, masked at `positions`. It has no gold tokens, because many fillings are correct.
pub fn slots_with_masks(slots: &[u32], positions: Vec<u32>, mask: u32) -> Masked {
    let mut canvas = slots.to_vec();
    positions.iter().for_each(|&place| canvas[place as usize] = mask);
    Masked { canvas, positions, gold: Vec::new() }
}

/// Masks the inner tokens at the indices `inner`, which start at 0 after bos.
fn mask_inner(target: &[u32], mask: u32, inner: Vec<usize>) -> Masked {
    let mut canvas = target.to_vec();
    let gold = inner.iter().map(|&i| std::mem::replace(&mut canvas[i + 1], mask)).collect();
    let positions = inner.into_iter().map(|i| i as u32 + 1).collect();
    Masked { canvas, positions, gold }
}

#[cfg(test)]
mod tests;
