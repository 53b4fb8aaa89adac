use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const BLANK: u32 = 3;

/// The collapsed text of slots, by definition.
fn read(slots: &[u32]) -> Vec<u32> {
    let mut read: Vec<u32> = slots.to_vec();
    read.dedup();
    read.retain(|&token| token != BLANK);
    read
}

/// The state of each slot of a filling, which is unique.
fn states(filling: &[u32]) -> Vec<usize> {
    let (mut tokens, mut before) = (0, BLANK);
    let state = |&token: &u32| {
        tokens += usize::from(token != BLANK && token != before);
        before = token;
        if token == BLANK { 2 * tokens } else { 2 * tokens - 1 }
    };
    filling.iter().map(state).collect()
}

/// All ways to fill `slots` slots with `symbols`.
fn fillings(symbols: &[u32], slots: usize) -> Vec<Vec<u32>> {
    (0..slots).fold(vec![vec![]], |all, _| {
        let more = |filling: Vec<u32>| {
            symbols.iter().map(move |&symbol| [filling.as_slice(), &[symbol]].concat()).collect::<Vec<_>>()
        };
        all.into_iter().flat_map(more).collect()
    })
}

fn scores(symbols: &[u32], slots: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..slots).map(|_| symbols.iter().map(|_| -3.0 * rng.random::<f32>()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn sum_posteriors_and_best_path_agree_with_enumeration(
        target in prop::collection::vec(10u32..13, 0..4), count in 1usize..6, seed: u64,
    ) {
        let symbols = symbols(&target, BLANK);
        let scores = scores(&symbols, count, seed);
        let lattice = Lattice::new(&target, &symbols, scores.iter().map(|s| Slot::Free(s)).collect());
        let place = |token: u32| symbols.iter().position(|&s| s == token).unwrap();
        let score = |filling: &Vec<u32>| -> f64 {
            filling.iter().zip(&scores).map(|(&token, s)| f64::from(s[place(token)])).sum()
        };
        let right: Vec<Vec<u32>> =
            fillings(&symbols, count).into_iter().filter(|filling| read(filling) == target).collect();
        prop_assert_eq!(right.is_empty(), count < slots_needed(&target));
        let sum = lattice.sum();
        let path = lattice.best_path();
        if right.is_empty() {
            prop_assert_eq!(sum.log_prob, f64::NEG_INFINITY);
            prop_assert_eq!(path, None);
            return Ok(());
        }
        let total: f64 = right.iter().map(|filling| score(filling).exp()).sum();
        prop_assert!((sum.log_prob - total.ln()).abs() < 1e-6);
        for slot in 0..count {
            for (i, &symbol) in symbols.iter().enumerate() {
                let with = right.iter().filter(|filling| filling[slot] == symbol);
                let share = with.map(|filling| score(filling).exp()).sum::<f64>() / total;
                let got = f64::from(sum.posteriors[slot * symbols.len() + i]);
                prop_assert!((got - share).abs() < 1e-5, "{} not {}", got, share);
            }
        }
        let best = right.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
        let filling: Vec<u32> = path.unwrap().into_iter().map(|state| symbol_at(state, &target, BLANK)).collect();
        prop_assert_eq!(read(&filling), target);
        prop_assert!((score(&filling) - best).abs() < 1e-5);
    }

    #[test]
    fn pinned_slots_restrict_the_sum_and_have_log_probability_zero(
        target in prop::collection::vec(10u32..12, 1..4), seed: u64, pins: u8,
    ) {
        let (symbols, count) = (symbols(&target, BLANK), 6);
        let scores = scores(&symbols, count, seed);
        let free: Vec<Slot> = scores.iter().map(|s| Slot::Free(s)).collect();
        let path = Lattice::new(&target, &symbols, free.clone()).best_path().unwrap();
        let pinned = |slot: &usize| pins >> slot & 1 == 1;
        let slots = (0..count).map(|i| if pinned(&i) { Slot::Pinned(path[i]) } else { free[i] }).collect();
        let constrained = Lattice::new(&target, &symbols, slots);
        let sum = constrained.sum();
        prop_assert_eq!(constrained.best_path().unwrap(), path.clone());

        let place = |token: u32| symbols.iter().position(|&s| s == token).unwrap();
        let score = |filling: &Vec<u32>| -> f64 {
            let of_slot = |slot: usize| f64::from(scores[slot][place(filling[slot])]);
            (0..count).filter(|slot| !pinned(slot)).map(of_slot).sum()
        };
        let mut right: Vec<Vec<u32>> = fillings(&symbols, count);
        right.retain(|filling| read(filling) == target);
        right.retain(|filling| {
            let states = states(filling);
            (0..count).filter(pinned).all(|slot| states[slot] == path[slot])
        });
        let total: f64 = right.iter().map(|filling| score(filling).exp()).sum();
        prop_assert!((sum.log_prob - total.ln()).abs() < 1e-6, "{} not {}", sum.log_prob, total.ln());
        let free: Vec<usize> = (0..count).filter(|slot| !pinned(slot)).collect();
        prop_assert_eq!(sum.posteriors.len(), free.len() * symbols.len());
        for (&slot, posteriors) in free.iter().zip(sum.posteriors.chunks(symbols.len())) {
            for (&symbol, &got) in symbols.iter().zip(posteriors) {
                let with = right.iter().filter(|filling| filling[slot] == symbol);
                let share = with.map(|filling| score(filling).exp()).sum::<f64>() / total;
                prop_assert!((f64::from(got) - share).abs() < 1e-5, "{} not {}", got, share);
            }
        }
    }
}

#[test]
fn equal_neighbours_need_a_blank_between_them() {
    assert_eq!(slots_needed(&[7, 7, 8, 8, 8]), 8);
    assert_eq!(slots_needed(&[]), 0);
    assert_eq!(symbols(&[9, 7, 9], BLANK), [BLANK, 7, 9]);
}
