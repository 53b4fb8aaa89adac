//! Connectionist temporal classification (Graves et al. 2006): all ways in which the slots of a canvas can spell a
//! target, with blanks between its tokens and repeats of a token in adjacent slots.
//!
//! A target `y1..yL` has 2L + 1 states, `blank y1 blank y2 … yL blank`: even states are blanks, odd state k is token
//! (k − 1) / 2. A path has one state for each slot. It begins in one of the first two states, ends in one of the last
//! two, and moves by 0 or 1 states, or by 2 if that skips a blank between different tokens.
//!
//! A slot can be *pinned* to a state (Imputer, Saharia et al. 2020): it is already filled, has log-probability 0, and
//! every path passes through its state. Everything here is a pure function of scores.

/// The CTC states of one target together with the scores of the slots.
pub struct Lattice<'a> {
    /// For each slot the log-probabilities of all [`symbols`], or the state that it is pinned to.
    slots: Vec<Slot<'a>>,
    /// For each state the index of its symbol.
    symbol_of: Vec<usize>,
    /// For each state the largest step that may lead to it: 0, 1, or 2 if the step may skip a blank.
    reach: Vec<usize>,
}

/// The scores of a slot, or its pinned state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot<'a> {
    Free(&'a [f32]),
    Pinned(usize),
}

/// The sum over all paths of a [`Lattice`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// Log-probability of the target; minus infinity if no path is possible.
    pub log_prob: f64,
    /// `[free slot, symbol]`, flattened: the probability of each symbol in each free slot, given the target.
    pub posteriors: Vec<f32>,
}

/// The symbols that slots can contain: the blank, then each token of the target once, ascending.
pub fn symbols(target: &[u32], blank: u32) -> Vec<u32> {
    let mut symbols = target.to_vec();
    symbols.sort_unstable();
    symbols.dedup();
    symbols.insert(0, blank);
    symbols
}

/// The smallest number of slots that can hold the target: equal neighbours need a blank between them.
pub fn slots_needed(target: &[u32]) -> usize {
    target.len() + target.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

impl<'a> Lattice<'a> {
    /// `target` is `y1..yL` without bos and eos; `symbols` are its [`symbols`]. Each free slot has one score for each
    /// symbol.
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

    /// The states that can precede `state`, itself first.
    fn predecessors(&self, state: usize) -> impl Iterator<Item = usize> + use<> {
        (state - self.reach[state]..=state).rev()
    }

    /// The states that can follow `state`, itself first.
    fn successors(&self, state: usize) -> impl Iterator<Item = usize> {
        let reach = &self.reach[state..];
        (0..reach.len().min(3)).filter(|&by| reach[by] >= by).map(move |by| state + by)
    }

    /// Log-probability of a state in a slot.
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
        // `forward` sums paths up to and including the slot, `backward` paths after it.
        let mut forward = vec![f64::NEG_INFINITY; slots * states];
        let mut backward = forward.clone();
        for slot in 0..slots {
            for state in 0..states {
                let before = match slot.checked_sub(1) {
                    None if state < 2 => 0.0,
                    None => continue,
                    Some(before) => log_sum(self.predecessors(state).map(|s| forward[before * states + s])),
                };
                forward[slot * states + state] = before + self.score(slot, state);
            }
        }
        for slot in (0..slots).rev() {
            for state in 0..states {
                backward[slot * states + state] = if slot + 1 < slots {
                    let next = (slot + 1) * states;
                    log_sum(self.successors(state).map(|s| backward[next + s] + self.score(slot + 1, s)))
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

    /// The states of the most probable path, one for each slot (Viterbi). Ties prefer to stay in a state. `None` if
    /// no path is possible.
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
                        .predecessors(state)
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

/// The token of a CTC state: the blank for even states.
pub fn symbol_at(state: usize, target: &[u32], blank: u32) -> u32 {
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
mod tests;
