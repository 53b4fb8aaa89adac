//! Connectionist temporal classification (Graves et al. 2006): all ways in which the slots of a canvas can spell a
//! target, with blanks between its tokens and any of them said several times in a row.
//!
//! A target `y1..yL` has the states `blank y1 blank y2 … yL blank`, 2L + 1 of them: even ones are blanks, odd state k
//! is the token (k − 1) / 2. A path has a state for each slot; it begins with one of the first two, ends with one of
//! the last two, and goes from one slot to the next by staying, by one state, or by two where that leaves out a
//! blank between different tokens. A slot may be *pinned* to a state: it is revealed, costs nothing and no path
//! goes around it (Imputer, Saharia et al. 2020). Pure: scores in, sums and paths out.

/// The states of one sentence's target with what its slots say of each.
pub struct Lattice<'a> {
    /// For each slot the log-probability of every symbol of [`symbols`], or the state that it is pinned to.
    slots: Vec<Slot<'a>>,
    /// For each state its place among the symbols.
    symbol_of: Vec<usize>,
    /// For each state how far in front of it a path may come from: 0, 1, or 2 where it leaves out a blank.
    reach: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot<'a> {
    Free(&'a [f32]),
    Pinned(usize),
}

/// What paths have to say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// ln of the probability of all paths; minus infinity where there is none.
    pub log_prob: f64,
    /// For each free slot, one after the other, the share of the paths that say each of the symbols there.
    pub posteriors: Vec<f32>,
}

/// What a slot may say: the blank, and each token of the target once.
pub fn symbols(target: &[u32], blank: u32) -> Vec<u32> {
    let mut symbols = target.to_vec();
    symbols.sort_unstable();
    symbols.dedup();
    symbols.insert(0, blank);
    symbols
}

/// How many slots a target needs: a blank has to stand between equal neighbours.
pub fn slots_needed(target: &[u32]) -> usize {
    target.len() + target.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

impl<'a> Lattice<'a> {
    /// `target` is `y1..yL`, without bos and eos; `symbols` are those of it ([`symbols`]), and the width of every free slot's scores.
    pub fn new(target: &[u32], symbols: &[u32], slots: Vec<Slot<'a>>) -> Self {
        let states = 2 * target.len() + 1;
        let of_token = |token: &u32| symbols[1..].binary_search(token).map_or(0, |place| place + 1);
        let symbol = |state: usize| if state.is_multiple_of(2) { 0 } else { of_token(&target[state / 2]) };
        let reach = |state: usize| {
            let leaves_out_blank = !state.is_multiple_of(2) && state > 1;
            let differs = || target[state / 2] != target[state / 2 - 1];
            if leaves_out_blank && differs() { 2 } else { state.min(1) }
        };
        Self { slots, symbol_of: (0..states).map(symbol).collect(), reach: (0..states).map(reach).collect() }
    }

    fn states(&self) -> usize {
        self.symbol_of.len()
    }

    /// The states from which a path may come to `state`: itself first.
    fn before(&self, state: usize) -> impl Iterator<Item = usize> + use<> {
        (state - self.reach[state]..=state).rev()
    }

    /// The states to which a path may go from `state`: itself first.
    fn behind(&self, state: usize) -> impl Iterator<Item = usize> {
        let reach = &self.reach[state..];
        (0..reach.len().min(3)).filter(|&by| reach[by] >= by).map(move |by| state + by)
    }

    /// ln of what a slot gives for a state.
    fn score(&self, slot: usize, state: usize) -> f64 {
        match self.slots[slot] {
            Slot::Free(scores) => scores[self.symbol_of[state]].into(),
            Slot::Pinned(pin) if pin == state => 0.0,
            Slot::Pinned(_) => f64::NEG_INFINITY,
        }
    }

    /// The sum over all paths, by the forward-backward algorithm.
    pub fn sum(&self) -> Sum {
        let (slots, states) = (self.slots.len(), self.states());
        let none = Sum { log_prob: f64::NEG_INFINITY, posteriors: Vec::new() };
        if slots == 0 {
            return none;
        }
        // Of paths up to and with the slot; of paths behind it.
        let mut forward = vec![f64::NEG_INFINITY; slots * states];
        let mut backward = forward.clone();
        for slot in 0..slots {
            for state in 0..states {
                let before = match slot.checked_sub(1) {
                    None if state < 2 => 0.0,
                    None => continue,
                    Some(before) => log_sum(self.before(state).map(|s| forward[before * states + s])),
                };
                forward[slot * states + state] = before + self.score(slot, state);
            }
        }
        for slot in (0..slots).rev() {
            for state in 0..states {
                backward[slot * states + state] = if slot + 1 < slots {
                    let next = (slot + 1) * states;
                    log_sum(self.behind(state).map(|s| backward[next + s] + self.score(slot + 1, s)))
                } else if state + 2 >= states {
                    0.0
                } else {
                    continue;
                };
            }
        }
        let log_prob = log_sum((0..states).map(|state| forward[state] + backward[state]));
        if log_prob == f64::NEG_INFINITY {
            return none;
        }
        let width = self.symbol_of.iter().max().map_or(1, |last| last + 1);
        let mut posteriors = Vec::new();
        for slot in (0..slots).filter(|&slot| matches!(self.slots[slot], Slot::Free(_))) {
            let own = posteriors.len();
            posteriors.resize(own + width, 0f32);
            for state in 0..states {
                let place = slot * states + state;
                let share = (forward[place] + backward[place] - log_prob).exp();
                posteriors[own + self.symbol_of[state]] += share as f32;
            }
        }
        Sum { log_prob, posteriors }
    }

    /// The states of the best path, one for each slot (Viterbi); of equal ones that which stays longer. `None`
    /// where no path is possible.
    pub fn best_path(&self) -> Option<Vec<usize>> {
        let (slots, states) = (self.slots.len(), self.states());
        let mut best = vec![f64::NEG_INFINITY; slots * states];
        let mut from = vec![0usize; slots * states];
        for slot in 0..slots {
            for state in 0..states {
                let place = slot * states + state;
                let before = match slot.checked_sub(1) {
                    None if state < 2 => Some((0.0, 0)),
                    None => None,
                    Some(before) => self
                        .before(state)
                        .map(|s| (best[before * states + s], s))
                        .reduce(|a, b| if b.0 > a.0 { b } else { a }),
                };
                if let Some((value, state_before)) = before {
                    best[place] = value + self.score(slot, state);
                    from[place] = state_before;
                }
            }
        }
        let last = slots.checked_sub(1)? * states;
        let ends = (states.saturating_sub(2)..states).rev();
        let end = ends.reduce(|a, b| if best[last + b] > best[last + a] { b } else { a })?;
        if best[last + end] == f64::NEG_INFINITY {
            return None;
        }
        let mut path = vec![end; slots];
        for slot in (1..slots).rev() {
            path[slot - 1] = from[slot * states + path[slot]];
        }
        Some(path)
    }
}

/// What a state says.
pub fn said(state: usize, target: &[u32], blank: u32) -> u32 {
    if state.is_multiple_of(2) { blank } else { target[state / 2] }
}

/// ln Σ eˣ
fn log_sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, |sum, value| {
        let (low, high) = if sum < value { (sum, value) } else { (value, sum) };
        if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLANK: u32 = 3;

    /// What slots say, as a reader understands it.
    fn read(slots: &[u32]) -> Vec<u32> {
        let mut read: Vec<u32> = slots.to_vec();
        read.dedup();
        read.retain(|&token| token != BLANK);
        read
    }

    /// The state that each slot of a filling is in: there is only one way to read it.
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
                symbols
                    .iter()
                    .map(move |&symbol| [filling.as_slice(), &[symbol]].concat())
                    .collect::<Vec<_>>()
            };
            all.into_iter().flat_map(more).collect()
        })
    }

    fn scores(symbols: &[u32], slots: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = crate::train::rng::Rng::from_seed(seed);
        (0..slots).map(|_| symbols.iter().map(|_| -3.0 * rng.uniform()).collect()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sum_posteriors_and_best_path_are_those_of_all_fillings_that_read_as_the_target(
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
            let filling: Vec<u32> = path.unwrap().into_iter().map(|state| said(state, &target, BLANK)).collect();
            prop_assert_eq!(read(&filling), target);
            prop_assert!((score(&filling) - best).abs() < 1e-5);
        }

        #[test]
        fn pinned_to_a_path_only_fillings_through_it_count_and_its_pins_are_free(
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
}
