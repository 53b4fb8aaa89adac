//! The slots of an Imputer's canvas (Saharia et al. 2020, arXiv 2004.07437): which of them a pass writes, and what
//! they mean in the end.

use super::Prediction;
use crate::text::Specials;

/// Of every `block` neighbouring slots the one that `predictions` are surest of, as indices into `wanted`,
/// ascending; ties at the lower slot. `wanted` are the masked slots, ascending, that `predictions` answer. A block
/// without a masked slot has none. `block` counts as at least 1.
pub fn surest_of_blocks(wanted: &[usize], predictions: &[Prediction], block: usize) -> Vec<usize> {
    let block = block.max(1);
    let mut surest: Vec<usize> = Vec::new();
    for (i, (&slot, prediction)) in wanted.iter().zip(predictions).enumerate() {
        match surest.last_mut() {
            Some(best) if wanted[*best] / block == slot / block => {
                if prediction.log_prob.total_cmp(&predictions[*best].log_prob).is_gt() {
                    *best = i;
                }
            }
            _ => surest.push(i),
        }
    }
    surest
}

/// What a slot holds when a prediction is written to it: a network that says the mask says that it has nothing to say.
pub fn imputed_token(predicted: u32, specials: &Specials) -> u32 {
    if predicted == specials.mask { specials.blank() } else { predicted }
}

/// The tokens that slots stand for, with their log-probabilities: runs of the same token are one, as sure as the
/// surest of them, and blanks none (CTC, Graves et al. 2006). A slot that is still masked is none either.
pub fn meant(slots: &[u32], log_probs: &[f32], specials: &Specials) -> (Vec<u32>, Vec<f32>) {
    let (mut tokens, mut best): (Vec<u32>, Vec<f32>) = (Vec::new(), Vec::new());
    let mut before = specials.blank();
    for (&token, &log_prob) in slots.iter().zip(log_probs) {
        if token != specials.blank() && token != specials.mask {
            match best.last_mut() {
                Some(best) if before == token => *best = best.max(log_prob),
                _ => {
                    tokens.push(token);
                    best.push(log_prob);
                }
            }
        }
        before = token;
    }
    (tokens, best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const B: u32 = 3;
    const MASK: u32 = 4;

    fn sure(log_probs: &[f32]) -> Vec<Prediction> {
        log_probs.iter().map(|&log_prob| Prediction { token: 9, log_prob }).collect()
    }

    #[test]
    fn each_block_gives_its_surest_slot_and_ties_the_lower() {
        let predictions = sure(&[-3.0, -1.0, -2.0, -0.5, -0.5, -9.0, -4.0]);
        assert_eq!(surest_of_blocks(&[0, 1, 2, 3, 4, 5, 6], &predictions, 3), [1, 3, 6]);
        assert_eq!(surest_of_blocks(&[0, 1, 5, 6, 7, 8, 11], &predictions, 4), [1, 3, 6]);
        assert_eq!(surest_of_blocks(&[2, 3], &predictions, 1), [0, 1]);
        assert_eq!(surest_of_blocks(&[], &[], 4), [0usize; 0]);
    }

    #[test]
    fn repeats_are_joined_unless_a_blank_sets_them_apart() {
        let slots = [B, 7, 7, B, 7, 8, B, B, MASK, 8, 9];
        let log_probs = [-0.1, -2.0, -1.0, -0.1, -0.5, -4.0, 0.0, 0.0, 0.0, -0.3, -0.2];
        let (tokens, log_probs) = meant(&slots, &log_probs, &Specials::default());
        assert_eq!(tokens, [7, 7, 8, 8, 9]);
        assert_eq!(log_probs, [-1.0, -0.5, -4.0, -0.3, -0.2]);
        assert_eq!(meant(&[B, B, MASK], &[0.0; 3], &Specials::default()), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn as_many_passes_as_a_block_has_slots_fill_all(
            slots in 0usize..70, block in 1usize..12, scores in prop::collection::vec(-4i8..=0, 1..50),
        ) {
            let mut wanted: Vec<usize> = (0..slots).collect();
            for pass in 0..block {
                let score = |slot: &usize| f32::from(scores[(pass * 13 + slot) % scores.len()]);
                let predictions = sure(&wanted.iter().map(score).collect::<Vec<_>>());
                let surest = surest_of_blocks(&wanted, &predictions, block);
                prop_assert!(surest.is_sorted());
                let mut written: Vec<usize> = surest.into_iter().map(|i| wanted[i]).collect();
                wanted.retain(|slot| !written.contains(slot));
                written.iter_mut().for_each(|slot| *slot /= block);
                written.dedup();
                prop_assert_eq!(written.len(), (pass..slots).step_by(block).count());
            }
            prop_assert!(wanted.is_empty());
        }
    }
}
