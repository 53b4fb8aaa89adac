//! Which sentences make up the next batch: a pure function over shapes.
//!
//! A batch is a rectangle, and what it costs is the rectangle, not what is in it. So a sentence joins
//! only if the rectangle stays inside the [`Budget`] and at most half of it is padding. One that does
//! not fit is skipped, not stopped at: shorter ones behind it may still come along, and the skipped
//! one moves towards the front, where nothing can keep it out.

/// Below so many tokens a pass costs the same however much of it is padding.
const FREE_TOKENS: usize = 128;
/// Newcomers that go first make running sentences sit out a pass, encoded. So many batches of them
/// may sit; this bounds the memory they hold.
const HELD_BATCHES: usize = 4;

/// A sentence's place in the order of service; smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// The pass by which the sentence should be done: its virtual deadline.
    pub due: u64,
    /// Order of arrival; no two are the same.
    pub order: u64,
}

/// The room that one sentence takes in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Canvases: one for each length of the beam.
    pub rows: usize,
    /// Source tokens with bos and eos.
    pub source: usize,
    /// Tokens of the longest canvas with bos and eos, or its slots.
    pub target: usize,
}

impl Shape {
    /// Tokens on both sides, over all rows.
    pub fn tokens(self) -> usize {
        self.rows.saturating_mul(self.source.saturating_add(self.target))
    }
}

/// What one pass may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `rows × (longest source + longest target)`.
    pub tokens: usize,
    pub rows: usize,
}

impl Budget {
    pub fn holds(&self, shape: Shape) -> bool {
        shape.rows <= self.rows && shape.tokens() <= self.tokens
    }
}

/// A sentence that could take part in the next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub turn: Turn,
    pub shape: Shape,
}

/// The indices, ascending, of the candidates that make up the next batch.
///
/// The one whose turn is first is always among them; the others must keep the budget. If each
/// candidate alone is within the budget, then so is the batch.
pub fn compose(candidates: &[Candidate], budget: Budget) -> Vec<usize> {
    let mut by_turn: Vec<usize> = (0..candidates.len()).collect();
    by_turn.sort_unstable_by_key(|&index| candidates[index].turn);
    let mut chosen = Vec::new();
    let mut batch: Option<Rectangle> = None;
    for index in by_turn {
        let shape = candidates[index].shape;
        let grown = match batch {
            None => Rectangle::around(shape),
            Some(batch) => batch.with(shape),
        };
        if batch.is_none() || (budget.holds(grown.outer) && !grown.wasteful()) {
            batch = Some(grown);
            chosen.push(index);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The turns of those among `waiting` (in the order of their turns) who should be encoded now, because
/// they belong into the next batch beside, or before, the `live` ones.
///
/// Whoever's turn is the first of all is among the live ones afterwards, so that each pass serves it.
pub fn newcomers(live: &[Candidate], waiting: impl Iterator<Item = Candidate>, budget: Budget) -> Vec<Turn> {
    let held = live.iter().fold(0_usize, |rows, candidate| rows.saturating_add(candidate.shape.rows));
    let mut candidates = live.to_vec();
    if held < budget.rows.saturating_mul(HELD_BATCHES) {
        candidates.extend(waiting);
    } else {
        let first = live.iter().map(|candidate| candidate.turn).min();
        candidates.extend(waiting.take(1).filter(|candidate| Some(candidate.turn) < first));
    }
    let chosen = compose(&candidates, budget).into_iter().filter(|&index| index >= live.len());
    chosen.map(|index| candidates[index].turn).collect()
}

#[derive(Clone, Copy)]
struct Rectangle {
    /// The longest of everything, and all rows.
    outer: Shape,
    /// Tokens that are not padding.
    real: usize,
}

impl Rectangle {
    fn around(shape: Shape) -> Self {
        Self { outer: shape, real: shape.tokens() }
    }

    fn with(self, shape: Shape) -> Self {
        let outer = Shape {
            rows: self.outer.rows.saturating_add(shape.rows),
            source: self.outer.source.max(shape.source),
            target: self.outer.target.max(shape.target),
        };
        Self { outer, real: self.real.saturating_add(shape.tokens()) }
    }

    fn wasteful(&self) -> bool {
        self.outer.tokens() > self.real.saturating_mul(2).max(FREE_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget { tokens: 400, rows: 8 };

    fn candidate(due: u64, rows: usize, source: usize, target: usize) -> Candidate {
        Candidate { turn: Turn { due, order: due }, shape: Shape { rows, source, target } }
    }

    fn rectangle(candidates: &[Candidate], chosen: &[usize]) -> Rectangle {
        let mut shapes = chosen.iter().map(|&index| candidates[index].shape);
        let first = shapes.next().map(Rectangle::around).unwrap();
        shapes.fold(first, Rectangle::with)
    }

    #[test]
    fn nobody_makes_no_batch() {
        assert_eq!(compose(&[], BUDGET), Vec::<usize>::new());
    }

    #[test]
    fn the_earliest_turn_goes_first_wherever_it_stands() {
        let tight = Budget { tokens: 40, rows: 1 };
        assert_eq!(compose(&[candidate(9, 1, 10, 10), candidate(3, 1, 10, 10)], tight), [1]);
    }

    #[test]
    fn what_does_not_fit_is_skipped_and_those_behind_it_still_come() {
        let candidates = [candidate(0, 6, 20, 20), candidate(1, 3, 20, 20), candidate(2, 2, 20, 20)];
        assert_eq!(compose(&candidates, BUDGET), [0, 2]);
    }

    #[test]
    fn a_long_sentence_does_not_pad_many_short_ones() {
        let short = |due| candidate(due, 1, 8, 8);
        let roomy = Budget { tokens: 4096, rows: 64 };
        let mut candidates: Vec<Candidate> = (0..20).map(short).collect();
        candidates.push(candidate(20, 1, 100, 100));
        assert_eq!(compose(&candidates, roomy), (0..20).collect::<Vec<_>>());
        candidates[20].turn.due = 0;
        candidates[20].turn.order = 0;
        candidates[0].turn.due = 20;
        assert!(compose(&candidates, roomy).contains(&20), "its turn comes, and then it leads");
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0_u64..50, 1_usize..=4, 2_usize..=50, 2_usize..=50);
        proptest::collection::vec(one, 1..60).prop_map(|drawn| {
            let number = |(order, (due, rows, source, target)): (usize, (u64, usize, usize, usize))| {
                Candidate { turn: Turn { due, order: order as u64 }, shape: Shape { rows, source, target } }
            };
            drawn.into_iter().enumerate().map(number).collect()
        })
    }

    proptest! {
        #[test]
        fn a_batch_keeps_the_budget_and_has_the_first_in_it(candidates in candidates()) {
            let chosen = compose(&candidates, BUDGET);
            let batch = rectangle(&candidates, &chosen);
            prop_assert!(BUDGET.holds(batch.outer), "{:?}", batch.outer);
            prop_assert!(!batch.wasteful());
            prop_assert!(chosen.is_sorted_by(|a, b| a < b), "each at most once");
            let first = (0..candidates.len()).min_by_key(|&index| candidates[index].turn).unwrap();
            prop_assert!(chosen.contains(&first));
        }

        #[test]
        fn sentences_of_one_size_fill_the_batch(count in 0_u64..20, source in 2_usize..=50, target in 2_usize..=50) {
            let candidates: Vec<_> = (0..count).map(|due| candidate(due, 1, source, target)).collect();
            let room = BUDGET.rows.min(BUDGET.tokens / (source + target));
            let expected: Vec<_> = (0..candidates.len().min(room)).collect();
            prop_assert_eq!(compose(&candidates, BUDGET), expected);
        }
    }

    #[test]
    fn where_too_many_sit_out_only_the_first_of_all_joins() {
        let live: Vec<_> = (10..42).map(|due| candidate(due, 1, 5, 5)).collect();
        let join =
            |due: &[u64]| newcomers(&live, due.iter().map(|&due| candidate(due, 1, 5, 5)), BUDGET).len();
        assert_eq!(join(&[7, 8, 9]), 1);
        assert_eq!(join(&[50, 51]), 0);
        let some = &live[..31];
        assert_eq!(newcomers(some, (7..10).map(|due| candidate(due, 1, 5, 5)), BUDGET).len(), 3);
    }
}
