//! What an Imputer's slots say together: the likeliest translation, each with all fillings that mean it (prefix search,
//! Graves et al. 2006), in place of the likeliest filling.
//!
//! A word that may stand in either of two slots has half a probability in each, and the blank may win in both; with
//! their sum the word wins.

use std::iter;

use super::ctc::{Lattice, Slot, said, symbols};

/// Translations that are kept from slot to slot. More gain nothing (config/train/README.md).
const WIDTH: usize = 4;

/// ln 1/2, and a little for rounding.
const HALF: f32 = -0.69;

/// What a slot may say and the log-probability of each; of a slot that is written, its token and 0. What is left
/// out is impossible. No token stands there twice.
pub type Choices = Vec<(u32, f32)>;

/// The likeliest translation found, filled into the slots in its likeliest way, with what each slot gives for it: so
/// that reading the slots ([`super::slots::meant`]) says the translation. Deterministic; of equal ones that which was
/// likelier a slot before.
pub fn likeliest_filling(slots: &[Choices], blank: u32) -> Vec<(u32, f32)> {
    let surest: Vec<_> =
        slots.iter().map(|slot| best_of(slot).unwrap_or((blank, f32::NEG_INFINITY))).collect();
    // More than half of all fillings: nothing else can be as likely.
    if surest.iter().map(|&(_, log_prob)| log_prob).sum::<f32>() > HALF {
        return surest;
    }
    let translation = likeliest_translation(slots, blank);
    if says(&surest, &translation, blank) {
        return surest;
    }
    let symbols = symbols(&translation, blank);
    let score = |slot: &Choices, symbol: u32| {
        slot.iter().find(|&&(token, _)| token == symbol).map_or(f32::NEG_INFINITY, |&(_, log_prob)| log_prob)
    };
    let scores: Vec<Vec<f32>> =
        slots.iter().map(|slot| symbols.iter().map(|&symbol| score(slot, symbol)).collect()).collect();
    let free = scores.iter().map(|scores| Slot::Free(scores)).collect();
    let Some(path) = Lattice::new(&translation, &symbols, free).best_path() else {
        return surest; // nothing is possible
    };
    let filled = path.into_iter().map(|state| said(state, &translation, blank));
    slots.iter().zip(filled).map(|(slot, token)| (token, score(slot, token))).collect()
}

fn says(filling: &[(u32, f32)], translation: &[u32], blank: u32) -> bool {
    let tokens = filling.iter().map(|&(token, _)| token);
    let before = iter::once(blank).chain(tokens.clone());
    let words = tokens.zip(before).filter(|&(token, before)| token != blank && token != before);
    words.map(|(token, _)| token).eq(translation.iter().copied())
}

fn best_of(slot: &Choices) -> Option<(u32, f32)> {
    slot.iter().copied().reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// A translation, or the beginning of one, as the last token and what stands before it.
struct Node {
    parent: usize,
    token: u32,
    children: Vec<usize>,
}

/// All beginnings that were ever kept, each once.
struct Tree(Vec<Node>);

const ROOT: usize = 0;

impl Tree {
    fn new() -> Self {
        Self(vec![Node { parent: ROOT, token: u32::MAX, children: Vec::new() }])
    }

    /// The token that it ends with, if it has any.
    fn last(&self, node: usize) -> Option<u32> {
        (node != ROOT).then(|| self.0[node].token)
    }

    fn child(&self, node: usize, token: u32) -> Option<usize> {
        self.0[node].children.iter().copied().find(|&child| self.0[child].token == token)
    }

    fn grow(&mut self, parent: usize, token: u32) -> usize {
        let child = self.0.len();
        self.0[parent].children.push(child);
        self.0.push(Node { parent, token, children: Vec::new() });
        child
    }

    fn text(&self, mut node: usize) -> Vec<u32> {
        let mut text = Vec::new();
        while let Some(token) = self.last(node) {
            text.push(token);
            node = self.0[node].parent;
        }
        text.reverse();
        text
    }
}

/// A beginning with the log-probability of all fillings of the slots so far that mean it.
#[derive(Clone, Copy)]
struct Prefix {
    at: At,
    /// Of those that end with a blank.
    blank: f32,
    /// Of those that end with its last token.
    word: f32,
    /// Their sum, once both are known.
    all: f32,
}

#[derive(Clone, Copy)]
enum At {
    Known(usize),
    /// A token more than a known one.
    New(usize, u32),
}

fn likeliest_translation(slots: &[Choices], blank: u32) -> Vec<u32> {
    let mut tree = Tree::new();
    let impossible = f32::NEG_INFINITY;
    let mut beam = vec![(ROOT, Prefix { at: At::Known(ROOT), blank: 0.0, word: impossible, all: 0.0 })];
    for slot in slots {
        let silent = slot.iter().find(|choice| choice.0 == blank).map_or(impossible, |choice| choice.1);
        let words = || slot.iter().copied().filter(|&(token, _)| token != blank);
        let mut next: Vec<Prefix> = Vec::with_capacity(beam.len() * (slot.len() + 1));
        for &(node, prefix) in &beam {
            let again = words().find(|&(token, _)| tree.last(node) == Some(token));
            let word = again.map_or(impossible, |(_, log_prob)| prefix.word + log_prob);
            next.push(Prefix { at: At::Known(node), blank: prefix.all + silent, word, all: impossible });
        }
        // What the last of them has at least, where no more are kept.
        let least = next.iter().map(|kept| log_add(kept.blank, kept.word)).reduce(f32::min);
        let floor = least.filter(|_| next.len() == WIDTH).unwrap_or(impossible);
        for &(node, prefix) in &beam {
            for (token, log_prob) in words() {
                // What is meant twice a blank sets apart.
                let before = if tree.last(node) == Some(token) { prefix.blank } else { prefix.all };
                let word = before + log_prob;
                let child = tree.child(node, token);
                let kept = child.and_then(|child| beam.iter().position(|&(kept, _)| kept == child));
                match kept {
                    Some(kept) => next[kept].word = log_add(next[kept].word, word),
                    None if word <= floor => {}
                    None => {
                        let at = child.map_or(At::New(node, token), At::Known);
                        next.push(Prefix { at, blank: impossible, word, all: impossible });
                    }
                }
            }
        }
        next.iter_mut().for_each(|prefix| prefix.all = log_add(prefix.blank, prefix.word));
        next.retain(|prefix| prefix.all > impossible);
        next.sort_by(|a, b| b.all.total_cmp(&a.all)); // stable
        next.truncate(WIDTH);
        beam.clear();
        for prefix in next {
            let node = match prefix.at {
                At::Known(node) => node,
                At::New(parent, token) => tree.grow(parent, token),
            };
            beam.push((node, prefix));
        }
    }
    beam.first().map(|&(node, _)| tree.text(node)).unwrap_or_default()
}

/// ln(eᵃ + eᵇ)
fn log_add(a: f32, b: f32) -> f32 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::slots::meant;
    use super::*;
    use crate::text::Specials;

    const BLANK: u32 = 3;

    fn reading(filling: &[(u32, f32)]) -> Vec<u32> {
        let (tokens, log_probs): (Vec<u32>, Vec<f32>) = filling.iter().copied().unzip();
        meant(&tokens, &log_probs, &Specials::default()).0
    }

    /// Probabilities of all readings, by the definition.
    fn readings(slots: &[Choices]) -> BTreeMap<Vec<u32>, f64> {
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
            *all.entry(reading(&filling)).or_insert(0.0) += log_prob.exp();
        }
        all
    }

    #[test]
    fn a_word_that_may_stand_in_either_slot_beats_the_blank_that_wins_in_both() {
        let slot: Choices = vec![(BLANK, 0.55f32.ln()), (9, 0.45f32.ln())];
        let filled = likeliest_filling(&[slot.clone(), slot.clone()], BLANK);
        assert_eq!(reading(&filled), [9], "0.70 against 0.30");
        assert_eq!(filled.iter().filter(|(token, _)| *token == 9).count(), 1, "the likeliest way to say it");
        assert!(reading(&likeliest_filling(&[slot], BLANK)).is_empty());
    }

    #[test]
    fn what_is_meant_twice_keeps_the_blank_between() {
        let sure = |token: u32| vec![(token, 0.0f32)];
        let slots = [sure(9), vec![(BLANK, -0.1), (9, -2.0)], sure(9), sure(9)];
        assert_eq!(reading(&likeliest_filling(&slots, BLANK)), [9, 9]);
    }

    #[test]
    fn nothing_and_the_impossible_are_answered_too() {
        assert!(likeliest_filling(&[], BLANK).is_empty());
        let impossible = vec![(9, f32::NEG_INFINITY), (BLANK, f32::NEG_INFINITY)];
        let filled = likeliest_filling(&[vec![(8, 0.0)], impossible, Vec::new()], BLANK);
        assert_eq!(filled.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [8, 9, BLANK]);
    }

    fn slots() -> impl Strategy<Value = Vec<Choices>> {
        let choices = prop::collection::btree_map(prop_oneof![Just(BLANK), 10u32..13], -4.0f32..0.0, 1..4);
        let log_probs = choices.prop_map(|choices| {
            let all = choices.values().copied().reduce(log_add).unwrap_or(0.0);
            choices.into_iter().map(|(token, log_prob)| (token, log_prob - all)).collect()
        });
        prop::collection::vec(log_probs, 0..6)
    }

    proptest! {
        #[test]
        fn the_filling_is_the_best_of_its_reading_and_the_reading_no_worse_than_that_of_the_best_filling(slots in slots()) {
            let filled = likeliest_filling(&slots, BLANK);
            let all = readings(&slots);
            let found = all[&reading(&filled)];
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
        fn among_few_readings_the_likeliest_is_found(slots in slots()) {
            let all = readings(&slots);
            prop_assume!((1..=slots.len()).all(|n| readings(&slots[..n]).len() <= WIDTH));
            let found = all[&reading(&likeliest_filling(&slots, BLANK))];
            let most = all.values().copied().fold(0.0, f64::max);
            prop_assert!(found >= most * (1.0 - 1e-5), "{} of {}", found, most);
        }
    }
}
