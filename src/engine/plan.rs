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
pub struct Priority {
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
    pub priority: Priority,
    pub shape: Shape,
}

/// The indices, ascending, of the candidates that make up the next batch.
///
/// The one whose turn is first is always among them; the others must keep the budget. If each
/// candidate alone is within the budget, then so is the batch.
pub fn plan_batch(candidates: &[Candidate], budget: Budget) -> Vec<usize> {
    let mut by_priority: Vec<usize> = (0..candidates.len()).collect();
    by_priority.sort_unstable_by_key(|&index| candidates[index].priority);
    let mut chosen = Vec::new();
    let mut batch: Option<Rectangle> = None;
    for index in by_priority {
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

/// The priorities of those among `waiting` (in the order of their priorities) who should be encoded now, because
/// they belong into the next batch beside, or before, the `live` ones.
///
/// Whoever's turn is the first of all is among the live ones afterwards, so that each pass serves it.
pub fn select_admissions(
    live: &[Candidate],
    waiting: impl Iterator<Item = Candidate>,
    budget: Budget,
) -> Vec<Priority> {
    let held = live.iter().fold(0_usize, |rows, candidate| rows.saturating_add(candidate.shape.rows));
    let mut candidates = live.to_vec();
    if held < budget.rows.saturating_mul(HELD_BATCHES) {
        candidates.extend(waiting);
    } else {
        let first = live.iter().map(|candidate| candidate.priority).min();
        candidates.extend(waiting.take(1).filter(|candidate| Some(candidate.priority) < first));
    }
    let chosen = plan_batch(&candidates, budget).into_iter().filter(|&index| index >= live.len());
    chosen.map(|index| candidates[index].priority).collect()
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
mod tests;
