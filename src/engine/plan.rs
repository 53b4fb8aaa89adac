//! Chooses the sentences of the next batch: a pure function over shapes.
//!
//! A batch is a padded rectangle, and its cost is the size of the rectangle. So a sentence joins only if the
//! rectangle stays within the [`Budget`] and at most half of it is padding. A sentence that does not fit is
//! skipped, and shorter ones behind it may still join. The skipped one moves to the front, and the first sentence
//! is always taken.

/// Up to this number of tokens, padding does not change the cost of a pass.
const FREE_TOKENS: usize = 128;
/// Maximum number of batches of active sentences. New sentences with an earlier priority let active ones skip
/// passes; the limit bounds the memory that these hold.
const HELD_BATCHES: usize = 4;

/// The position of a sentence in the order of service; smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority {
    /// The pass by which the sentence should be done: its virtual deadline.
    pub due: u64,
    /// Order of arrival; unique.
    pub order: u64,
}

/// The size of a batch, or of one sentence in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Canvases: one for each length of the beam.
    pub rows: usize,
    /// Source tokens with bos and eos.
    pub source: usize,
    /// Tokens of the longest canvas with bos and eos, or number of its slots.
    pub target: usize,
}

impl BatchShape {
    /// Source and target tokens of all rows.
    pub fn tokens(self) -> usize {
        self.rows.saturating_mul(self.source.saturating_add(self.target))
    }
}

/// The limits of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `rows × (longest source + longest target)`.
    pub tokens: usize,
    pub rows: usize,
}

impl Budget {
    pub fn holds(&self, shape: BatchShape) -> bool {
        shape.rows <= self.rows && shape.tokens() <= self.tokens
    }
}

/// A sentence that may join the next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub priority: Priority,
    pub shape: BatchShape,
}

/// The indices of the candidates of the next batch, ascending.
///
/// The candidate with the first priority is always among them; the others join within the budget. If each
/// candidate alone is within the budget, so is the batch.
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

/// The priorities of the `waiting` sentences (which are in the order of their priorities) that should be encoded
/// now, because they are part of the next batch.
///
/// If the first priority of all belongs to a waiting sentence, that sentence is among them.
pub fn select_admissions(
    active: &[Candidate],
    waiting: impl Iterator<Item = Candidate>,
    budget: Budget,
) -> Vec<Priority> {
    let held = active.iter().fold(0_usize, |rows, candidate| rows.saturating_add(candidate.shape.rows));
    let mut candidates = active.to_vec();
    if held < budget.rows.saturating_mul(HELD_BATCHES) {
        candidates.extend(waiting);
    } else {
        let first = active.iter().map(|candidate| candidate.priority).min();
        candidates.extend(waiting.take(1).filter(|candidate| Some(candidate.priority) < first));
    }
    let chosen = plan_batch(&candidates, budget).into_iter().filter(|&index| index >= active.len());
    chosen.map(|index| candidates[index].priority).collect()
}

#[derive(Clone, Copy)]
struct Rectangle {
    /// The longest source, the longest target and all rows.
    outer: BatchShape,
    /// Tokens that are not padding.
    real: usize,
}

impl Rectangle {
    fn around(shape: BatchShape) -> Self {
        Self { outer: shape, real: shape.tokens() }
    }

    fn with(self, shape: BatchShape) -> Self {
        let outer = BatchShape {
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
