use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::slots::ctc_collapse;
use super::*;
use crate::model::{Fusion, Gram};
use crate::text::Specials;

const BLANK: u32 = 3;

fn collapsed(filling: &[(u32, f32)]) -> Vec<u32> {
    let (tokens, log_probs): (Vec<u32>, Vec<f32>) = filling.iter().copied().unzip();
    ctc_collapse(&tokens, &log_probs, &Specials::default()).0
}

/// Probabilities of all translations, by definition.
fn translation_probs(slots: &[TopK]) -> BTreeMap<Vec<u32>, f64> {
    let mut fillings: Vec<(Vec<(u32, f32)>, f64)> = vec![(Vec::new(), 0.0)];
    for slot in slots {
        let more = fillings.iter().flat_map(|(filling, log_prob)| {
            slot.iter().map(move |&choice| {
                ([filling.as_slice(), &[choice]].concat(), log_prob + f64::from(choice.1))
            })
        });
        fillings = more.collect();
    }
    let mut all = BTreeMap::new();
    for (filling, log_prob) in fillings {
        *all.entry(collapsed(&filling)).or_insert(0.0) += log_prob.exp();
    }
    all
}

#[test]
fn a_token_that_fits_two_slots_beats_the_blank() {
    let slot: TopK = vec![(BLANK, 0.55f32.ln()), (9, 0.45f32.ln())];
    let filled = prefix_beam_search(&[slot.clone(), slot.clone()], BLANK, None);
    assert_eq!(collapsed(&filled), [9], "0.70 against 0.30");
    assert_eq!(
        filled.iter().filter(|(token, _)| *token == 9).count(),
        1,
        "the best filling has one 9 and one blank"
    );
    assert!(collapsed(&prefix_beam_search(&[slot], BLANK, None)).is_empty());
}

#[test]
fn several_translations_come_most_probable_first() {
    let either = |a: u32, b: u32| vec![(a, 0.51f32.ln()), (b, 0.49f32.ln())];
    let slots = [either(10, 12), either(11, 12)];
    let translations = |count| -> Vec<Vec<u32>> {
        n_best(&slots, BLANK, None, count).iter().map(|one| collapsed(&one.filling)).collect()
    };
    let mut all = translations(9);
    assert_eq!((&all[0], &all[3]), (&vec![10, 11], &vec![12]), "0.26 and 0.24");
    assert_eq!(translations(2), all[..2]);
    all.sort_unstable();
    assert_eq!(all, [vec![10, 11], vec![10, 12], vec![12], vec![12, 11]]);
    assert!(n_best(&[], BLANK, None, 3).is_empty());
}

#[test]
fn a_true_repeat_keeps_the_blank_between() {
    let sure = |token: u32| vec![(token, 0.0f32)];
    let slots = [sure(9), vec![(BLANK, -0.1), (9, -2.0)], sure(9), sure(9)];
    assert_eq!(collapsed(&prefix_beam_search(&slots, BLANK, None)), [9, 9]);
}

/// A model of tokens below 13, in which 11 almost never follows 10.
pub fn lm(weight: f32, bonus: f32) -> LanguageModel {
    lm_of(Fusion { weight, bonus, penalty: f32::INFINITY })
}

fn lm_of(fusion: Fusion) -> LanguageModel {
    let unigrams: Vec<Gram<1>> = (0..13).map(|t| Gram { tokens: [t], prob: 0.1, backoff: 0.9 }).collect();
    let bigrams = [([1, 10], 0.5), ([10, 2], 0.3), ([10, 11], 1e-4), ([11, 12], 0.6)];
    let bigrams = bigrams.map(|(tokens, prob)| Gram { tokens, prob, backoff: 0.8 });
    let trigrams = [Gram { tokens: [10, 11, 12], prob: 0.9, backoff: 1.0 }];
    LanguageModel::new(fusion, &unigrams, &bigrams, &trigrams).unwrap()
}

#[test]
fn a_language_model_prevents_mixtures_of_two_translations() {
    let either = |a: u32, b: u32| vec![(a, 0.51f32.ln()), (b, 0.49f32.ln())];
    let slots = [either(10, 12), either(11, 12)];
    assert_eq!(collapsed(&prefix_beam_search(&slots, BLANK, None)), [10, 11]);
    assert_eq!(collapsed(&prefix_beam_search(&slots, BLANK, Some(&lm(0.0, 0.0)))), [10, 11], "weight 0");
    assert_eq!(
        collapsed(&prefix_beam_search(&slots, BLANK, Some(&lm(1.0, 0.0)))),
        [12],
        "0.24 · 0.9 · 0.1 · 0.09"
    );
    let mild = lm_of(Fusion { weight: 1.0, bonus: 0.0, penalty: 0.0 });
    let found = collapsed(&prefix_beam_search(&slots, BLANK, Some(&mild)));
    assert_eq!(found, [10, 12], "no token has a penalty, but one end is more probable than the other");
    let sure = [vec![(10, -0.1)], vec![(11, -0.1), (12, -3.0)]];
    assert_eq!(
        collapsed(&prefix_beam_search(&sure, BLANK, Some(&lm(1.0, 0.0)))),
        [10, 11],
        "the language model is not used"
    );
}

#[test]
fn a_bonus_makes_translations_longer() {
    let slots =
        [vec![(BLANK, 0.6f32.ln()), (10, 0.4f32.ln())], vec![(BLANK, 0.6f32.ln()), (12, 0.4f32.ln())]];
    let length = |bonus| collapsed(&prefix_beam_search(&slots, BLANK, Some(&lm(0.5, bonus)))).len();
    assert_eq!((length(0.0), length(3.0)), (0, 2));
}

#[test]
fn empty_and_impossible_slots_have_a_result() {
    assert!(prefix_beam_search(&[], BLANK, None).is_empty());
    let impossible = vec![(9, f32::NEG_INFINITY), (BLANK, f32::NEG_INFINITY)];
    let filled = prefix_beam_search(&[vec![(8, 0.0)], impossible, Vec::new()], BLANK, None);
    assert_eq!(filled.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [8, 9, BLANK]);
}

fn slots() -> impl Strategy<Value = Vec<TopK>> {
    let choices = prop::collection::btree_map(prop_oneof![Just(BLANK), 10u32..13], -4.0f32..0.0, 1..4);
    let log_probs = choices.prop_map(|choices| {
        let all = choices.values().copied().reduce(log_add).unwrap_or(0.0);
        choices.into_iter().map(|(token, log_prob)| (token, log_prob - all)).collect()
    });
    prop::collection::vec(log_probs, 0..6)
}

proptest! {
    #[test]
    fn the_translation_is_at_least_as_probable_as_that_of_the_best_filling(slots in slots()) {
        let filled = prefix_beam_search(&slots, BLANK, None);
        let all = translation_probs(&slots);
        let found = all[&collapsed(&filled)];
        let greedy: Vec<(u32, f32)> = slots.iter().map(|slot| best_of(slot).unwrap()).collect();
        let best_path: f64 = greedy.iter().map(|c| f64::from(c.1)).sum();
        prop_assert!(found >= best_path.exp() * (1.0 - 1e-5), "{} below the best filling", found);
        let total: f64 = filled.iter().map(|c| f64::from(c.1)).sum();
        prop_assert!(total.exp() <= found * (1.0 + 1e-5));
        for (slot, choice) in slots.iter().zip(&filled) {
            prop_assert!(slot.contains(choice));
        }
    }

    #[test]
    fn among_few_translations_the_most_probable_is_found(slots in slots()) {
        let all = translation_probs(&slots);
        prop_assume!((1..=slots.len()).all(|n| translation_probs(&slots[..n]).len() <= WIDTH));
        let found = all[&collapsed(&prefix_beam_search(&slots, BLANK, None))];
        let most = all.values().copied().fold(0.0, f64::max);
        prop_assert!(found >= most * (1.0 - 1e-5), "{} of {}", found, most);
    }

    #[test]
    fn several_translations_are_different_and_in_the_order_of_their_probabilities(slots in slots()) {
        prop_assume!(!slots.is_empty());
        let all = translation_probs(&slots);
        let found = n_best(&slots, BLANK, None, 4);
        let read: Vec<Vec<u32>> = found.iter().map(|one| collapsed(&one.filling)).collect();
        let mut distinct = read.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), read.len());
        prop_assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        if (1..=slots.len()).all(|n| translation_probs(&slots[..n]).len() <= WIDTH_WITH_LM) {
            let mut most: Vec<f64> = all.values().copied().filter(|&probability| probability > 0.0).collect();
            most.sort_unstable_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(read.len(), most.len().min(4));
            for (one, probability) in found.iter().zip(most) {
                prop_assert!((f64::from(one.score) - probability.ln()).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn with_a_language_model_the_best_of_few_translations_is_found(
        slots in slots(), weight in 0.0f32..1.5, bonus in -1.0f32..3.0,
        penalty in prop_oneof![Just(f32::INFINITY), 0.0f32..2.0],
    ) {
        let all = translation_probs(&slots);
        prop_assume!((1..=slots.len()).all(|n| translation_probs(&slots[..n]).len() <= WIDTH_WITH_LM));
        let lm = lm_of(Fusion { weight, bonus, penalty });
        let token_score = |collapsed: &[u32]| {
            let (mut token_score, mut context) = (0.0, lm.start());
            for &token in collapsed {
                let (log_prob, next) = lm.next(context, token);
                (token_score, context) = (token_score + (weight * log_prob + bonus).max(-penalty), next);
            }
            all[collapsed].ln() + f64::from(token_score + weight * lm.end(context))
        };
        let filled = prefix_beam_search(&slots, BLANK, Some(&lm));
        let greedy: Vec<(u32, f32)> = slots.iter().map(|slot| best_of(slot).unwrap()).collect();
        if greedy.iter().map(|choice| choice.1).sum::<f32>() > HALF {
            prop_assert_eq!(filled, greedy);
        } else {
            let most = all.keys().map(|collapsed| token_score(collapsed)).fold(f64::NEG_INFINITY, f64::max);
            let found = token_score(&collapsed(&filled));
            prop_assert!(found >= most - 1e-3, "{} of {}", found, most);
        }
    }
}
