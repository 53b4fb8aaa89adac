//! What the network is asked to fill in: CMLM's random masking of a target (Ghazvininejad 2019), and an Imputer's
//! of its slots (Saharia et al. 2020).
//!
//! For a target `bos x1..xL eos`: u ~ U[0, 1), m = ⌊L·u + 1⌋ of the L inner positions, uniformly.
//! So the number of masks is uniform over 1..=L, and `bos` and `eos` always stand.

use super::config::SlotMask;
use super::rng::Rng;
use crate::text::Specials;

/// A target with some of its inner tokens hidden, or slots that spell it with some of them hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The target, or the slots, with `<mask>` at `positions`.
    pub canvas: Vec<u32>,
    /// Where the masks are, ascending; never the first or the last place of a target.
    pub positions: Vec<u32>,
    /// The hidden token of each position; none of a canvas that was made of no target.
    pub gold: Vec<u32>,
}

/// Masks 1..=L inner tokens of `target` (`bos x1..xL eos`); none where L = 0.
pub fn mask_target(target: &[u32], mask: u32, rng: &mut Rng) -> Masked {
    let inner = target.len().saturating_sub(2);
    let count = ((inner as f32 * rng.uniform() + 1.0) as usize).min(inner);
    hide(target, mask, rng.sample(count, inner))
}

/// Masks ⌊L·u⌋ inner tokens of a translation, but at least one; none where L = 0. For text that a
/// teacher wrote itself, where a whole mask would leave nothing of it (U-DiMS, Norouzi et al. 2023).
pub fn mask_translation(target: &[u32], mask: u32, rng: &mut Rng) -> Masked {
    let inner = target.len().saturating_sub(2);
    let count = ((inner as f32 * rng.uniform()) as usize).max(1);
    hide(target, mask, rng.sample(count, inner))
}

/// Masks 1 + ⌊share·n·u⌋ of the n words of a source `bos x1..xn eos`, u ~ U[0, 1), uniformly; none where
/// n = 0. Tokens below `first_word` are no words (JM-NAT, Guo et al. 2020; CMLMC's code).
pub fn mask_source(source: &[u32], share: f64, mask: u32, first_word: u32, rng: &mut Rng) -> Masked {
    let inner = 0..source.len().saturating_sub(2);
    let words: Vec<usize> = inner.filter(|&i| source[i + 1] >= first_word).collect();
    let count = (share * words.len() as f64 * f64::from(rng.uniform())) as usize + 1;
    hide(source, mask, rng.sample(count, words.len()).into_iter().map(|i| words[i]).collect())
}

/// ⌊share·|R|⌋ of the inner positions R that `masked` reveals, uniformly, ascending: those that CMLMC
/// replaces by guesses (Huang et al. 2022).
pub fn revealed(masked: &Masked, share: f64, rng: &mut Rng) -> Vec<u32> {
    let last = masked.canvas.len().saturating_sub(1) as u32;
    let revealed: Vec<u32> = (1..last).filter(|p| masked.positions.binary_search(p).is_err()).collect();
    let count = (share * revealed.len() as f64) as usize;
    rng.sample(count, revealed.len()).into_iter().map(|i| revealed[i]).collect()
}

/// Masks all inner tokens: the canvas that decoding starts from.
pub fn mask_all(target: &[u32], mask: u32) -> Masked {
    hide(target, mask, (0..target.len().saturating_sub(2)).collect())
}

/// A canvas of `inner` masks that is nobody's target: its places have no gold tokens.
pub fn masks_only(inner: usize, specials: &Specials) -> Masked {
    let Specials { bos, eos, mask, .. } = *specials;
    let canvas = [&[bos], vec![mask; inner].as_slice(), &[eos]].concat();
    Masked { canvas, positions: (1..=inner as u32).collect(), gold: Vec::new() }
}

/// Which of `count` slots are masked, ascending; at least one of any.
pub fn mask_slots(count: usize, how: SlotMask, rng: &mut Rng) -> Vec<u32> {
    let ascending = |places: Vec<usize>| places.into_iter().map(|place| place as u32).collect();
    match how {
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

/// An Imputer's canvas: what `slots` say, but for those at `positions`. Nobody's gold: many fillings are right.
pub fn slots_with_masks(slots: &[u32], positions: Vec<u32>, mask: u32) -> Masked {
    let mut canvas = slots.to_vec();
    positions.iter().for_each(|&place| canvas[place as usize] = mask);
    Masked { canvas, positions, gold: Vec::new() }
}

/// `inner` counts from 0 at the token after `bos`.
fn hide(target: &[u32], mask: u32, inner: Vec<usize>) -> Masked {
    let mut canvas = target.to_vec();
    let gold = inner.iter().map(|&i| std::mem::replace(&mut canvas[i + 1], mask)).collect();
    let positions = inner.into_iter().map(|i| i as u32 + 1).collect();
    Masked { canvas, positions, gold }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::train::rng::Rng; // not the trait of proptest's prelude

    const BOS: u32 = 1;
    const EOS: u32 = 2;
    const MASK: u32 = 4;

    fn target(inner: usize) -> Vec<u32> {
        let mut tokens = vec![BOS];
        tokens.extend((0..inner as u32).map(|i| 10 + i));
        tokens.push(EOS);
        tokens
    }

    #[test]
    fn the_number_of_masks_and_their_places_are_uniform() {
        let target = target(6);
        let mut rng = Rng::from_seed(3);
        let (mut counts, mut places) = ([0u32; 7], [0u32; 8]);
        for _ in 0..12_000 {
            let masked = mask_target(&target, MASK, &mut rng);
            counts[masked.positions.len()] += 1;
            masked.positions.iter().for_each(|&p| places[p as usize] += 1);
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|n| n.abs_diff(2_000) < 200), "{counts:?}");
        // On average (1 + 6) / 2 of 6 places are masked.
        assert_eq!((places[0], places[7]), (0, 0));
        assert!(places[1..7].iter().all(|n| n.abs_diff(7_000) < 300), "{places:?}");
    }

    #[test]
    fn a_target_without_inner_tokens_stays_as_it_is() {
        for bare in [vec![], vec![BOS], vec![BOS, EOS]] {
            let masked = mask_target(&bare, MASK, &mut Rng::from_seed(0));
            assert_eq!(masked, Masked { canvas: bare, positions: vec![], gold: vec![] });
        }
    }

    #[test]
    fn of_a_translation_something_is_always_masked_and_something_kept() {
        let mut rng = Rng::from_seed(5);
        let counts = |inner: usize, rng: &mut Rng| -> std::collections::BTreeSet<usize> {
            let draw = || mask_translation(&target(inner), MASK, rng).positions.len();
            std::iter::repeat_with(draw).take(300).collect()
        };
        assert_eq!(counts(5, &mut rng), [1, 2, 3, 4].into());
        assert_eq!(counts(1, &mut rng), [1].into());
        assert_eq!(counts(0, &mut rng), [0].into());
    }

    #[test]
    fn masking_all_leaves_the_ends() {
        let masked = mask_all(&target(3), MASK);
        assert_eq!(masked.canvas, [BOS, MASK, MASK, MASK, EOS]);
        assert_eq!(masked.positions, [1, 2, 3]);
        assert_eq!(masked.gold, [10, 11, 12]);
    }

    #[test]
    fn at_least_one_word_of_a_source_is_masked_and_never_a_special_token() {
        let mut rng = Rng::from_seed(6);
        let mut counts = [0u32; 5];
        for _ in 0..3_000 {
            let masked = mask_source(&target(30), 0.1, MASK, 5, &mut rng);
            counts[masked.positions.len()] += 1;
        }
        // 1 + floor(3u): one to three, each as likely.
        assert_eq!((counts[0], counts[4]), (0, 0));
        assert!(counts[1..4].iter().all(|n| n.abs_diff(1_000) < 120), "{counts:?}");
        let source = [BOS, 3, 9, 3, EOS];
        assert_eq!(mask_source(&source, 0.1, MASK, 5, &mut rng).positions, [2]);
        assert_eq!(mask_source(&[BOS, EOS], 0.1, MASK, 5, &mut rng).positions, [0u32; 0]);
    }

    #[test]
    fn the_share_of_revealed_places_is_rounded_down() {
        let mut rng = Rng::from_seed(7);
        for (inner, masks, expected) in [(10, 0, 3), (10, 4, 1), (10, 7, 0), (3, 0, 0), (20, 0, 6)] {
            let masked = hide(&target(inner), MASK, (0..masks).collect());
            let places = revealed(&masked, 0.3, &mut rng);
            assert_eq!(places.len(), expected, "{inner} of which {masks} masked");
            assert!(places.windows(2).all(|w| w[0] < w[1]));
            assert!(places.iter().all(|&p| p as usize > masks && p as usize <= inner), "{places:?}");
        }
    }

    #[test]
    fn every_block_of_slots_has_as_many_masks_and_a_quarter_of_the_canvases_nothing_else() {
        let mut rng = Rng::from_seed(9);
        let mut whole = 0;
        for _ in 0..4_000 {
            let places = mask_slots(32, SlotMask::Block, &mut rng);
            assert!(places.is_sorted_by(|a, b| a < b));
            let fits = |block: usize| {
                let counts: Vec<usize> = (0..32 / block)
                    .map(|i| places.iter().filter(|&&p| p as usize / block == i).count())
                    .collect();
                counts.iter().all(|&count| count == counts[0] && count > 0)
            };
            assert!([2, 4, 8, 16].into_iter().any(fits), "{places:?}");
            whole += usize::from(places.len() == 32);
        }
        // (1/2 + 1/4 + 1/8 + 1/16) / 4 = 0.234
        assert!((850..1_030).contains(&whole), "{whole}");
        assert_eq!(mask_slots(5, SlotMask::Full, &mut rng), [0, 1, 2, 3, 4]);
        for how in [SlotMask::Block, SlotMask::Uniform, SlotMask::Full] {
            assert_eq!(mask_slots(1, how, &mut rng), [0]);
            assert_eq!(mask_slots(0, how, &mut rng), [0u32; 0]);
        }
    }

    proptest! {
        #[test]
        fn filling_the_gold_back_in_gives_the_target(seed: u64, inner in 1usize..300) {
            let target = target(inner);
            let masked = mask_target(&target, MASK, &mut Rng::from_seed(seed));
            prop_assert!((1..=inner).contains(&masked.positions.len()));
            prop_assert_eq!(masked.canvas.iter().filter(|&&t| t == MASK).count(), masked.positions.len());
            let mut restored = masked.canvas.clone();
            for (&position, &gold) in masked.positions.iter().zip(&masked.gold) {
                prop_assert!(position >= 1 && position as usize <= inner);
                prop_assert_eq!(restored[position as usize], MASK);
                restored[position as usize] = gold;
            }
            prop_assert_eq!(restored, target);
        }

        #[test]
        fn one_seed_gives_one_masking(seed: u64, inner in 1usize..50) {
            let target = target(inner);
            let draw = || mask_target(&target, MASK, &mut Rng::from_seed(seed));
            prop_assert_eq!(draw(), draw());
        }
    }
}
