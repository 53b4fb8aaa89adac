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
    // On average (1 + 6) / 2 of 6 positions are masked.
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
fn a_translation_is_always_partly_masked() {
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
    // 1 + floor(3u): one to three, with equal probability.
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
        let masked = mask_inner(&target(inner), MASK, (0..masks).collect());
        let places = revealed(&masked, 0.3, &mut rng);
        assert_eq!(places.len(), expected, "{inner} of which {masks} masked");
        assert!(places.windows(2).all(|w| w[0] < w[1]));
        assert!(places.iter().all(|&p| p as usize > masks && p as usize <= inner), "{places:?}");
    }
}

#[test]
fn every_block_has_equally_many_masks_and_a_quarter_of_canvases_is_fully_masked() {
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
    for kind in [SlotMask::Block, SlotMask::Uniform, SlotMask::Full] {
        assert_eq!(mask_slots(1, kind, &mut rng), [0]);
        assert_eq!(mask_slots(0, kind, &mut rng), [0u32; 0]);
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
