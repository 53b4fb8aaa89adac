//! How the rows of a batch are shared among threads: groups of whole sentences, each taken through a whole pass by one thread, or,
//! with fewer sentences, blocks of rows between two phases.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::scratch::Scratch;

/// Rows of a group, about: enough for a few tiles, so few that what they carry stays in the second cache.
const GROUP_ROWS: usize = 42;
/// Most rows of a block.
const MOST_ROWS: usize = 112;
/// Below this a block is not worth another thread: each reads all weights.
const LEAST_ROWS: usize = 4;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Calls `f(sentences, threads)` for groups of neighbouring sentences of these `lengths`, and gives their
/// answers in order. Either each group is for one thread, and they run side by side; or all sentences are
/// one group for every thread.
pub(super) fn by_groups<T: Send>(
    lengths: &[usize],
    f: impl Fn(Range<usize>, usize) -> T + Sync + Send,
) -> Vec<T> {
    let threads = rayon::current_num_threads();
    match groups_of(lengths, threads) {
        Some(groups) if threads == 1 => groups.into_iter().map(|group| f(group, 1)).collect(),
        Some(groups) => groups.into_par_iter().with_max_len(1).map(|group| f(group, 1)).collect(),
        None if threads == 1 => vec![f(0..lengths.len(), 1)],
        // On a thread of the pool, so that phases need not be handed over one by one.
        None => rayon::scope(|_| vec![f(0..lengths.len(), threads)]),
    }
}

/// The groups for so many threads; none where they would leave threads without work for long, because
/// there are few sentences or one is much longer than the others.
fn groups_of(lengths: &[usize], threads: usize) -> Option<Vec<Range<usize>>> {
    let rows: usize = lengths.iter().sum();
    if rows < threads * GROUP_ROWS {
        return None;
    }
    let groups = cut(lengths, (rows / GROUP_ROWS).next_multiple_of(threads));
    let longest = groups.iter().map(|group| lengths[group.clone()].iter().sum()).max().unwrap_or(0);
    // At most an eighth above a thread's share.
    (longest * threads * 8 <= rows * 9).then_some(groups)
}

/// At most `groups` ranges of neighbours with about the same number of rows.
fn cut(lengths: &[usize], groups: usize) -> Vec<Range<usize>> {
    let rows: usize = lengths.iter().sum();
    let mut ranges = Vec::with_capacity(groups);
    let (mut start, mut before) = (0, 0);
    for (i, len) in lengths.iter().enumerate() {
        before += len;
        // Ends where the next sentence would reach further beyond the border than this one stays below.
        let border = rows * (ranges.len() + 1) / groups;
        let next = lengths.get(i + 1).copied().unwrap_or(0);
        if before + next / 2 >= border || i + 1 == lengths.len() {
            ranges.push(start..i + 1);
            start = i + 1;
        }
    }
    ranges
}

/// A pass over the packed rows of some sentences, on some threads.
pub(super) struct Pass<'a> {
    /// Where each sentence starts, and the end of the last.
    pub(super) starts: &'a [usize],
    /// Where the sentences start that attention looks at; a pass over some of their rows only has fewer.
    pub(super) keys: &'a [usize],
    /// Of each row of a pass over some rows only, its position in its sentence.
    pub(super) positions: Option<&'a [usize]>,
    pub(super) d: usize,
    pub(super) threads: usize,
}

/// Where each of some sentences starts, and the end of the last.
pub(super) fn starts(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut end = 0;
    std::iter::once(0)
        .chain(lengths.map(|len| {
            end += len;
            end
        }))
        .collect()
}

impl Pass<'_> {
    pub(super) fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Calls `f(block, its rows of x [_, d], its rows of out [_, width], scratch)` for every block.
    pub(super) fn phase(
        &self,
        x: &mut [f32],
        out: &mut [f32],
        width: usize,
        f: impl Fn(&Block, &mut [f32], &mut [f32], &mut Scratch) + Sync,
    ) {
        let rows = self.rows();
        let size = block_rows(rows, self.threads);
        let run = |index: usize, x: &mut [f32], out: &mut [f32]| {
            let first = index * size;
            let rows = first..first + x.len() / self.d;
            let block = Block { rows, starts: self.starts, keys: self.keys, positions: self.positions };
            let mut scratch = SCRATCH.take();
            f(&block, x, out, &mut scratch);
            SCRATCH.set(scratch);
        };
        if rows <= size {
            return run(0, x, out);
        }
        // A phase without output still has its blocks.
        let mut parts: Vec<(&mut [f32], &mut [f32])> = Vec::with_capacity(rows.div_ceil(size));
        let mut out = out;
        for x in x.chunks_mut(size * self.d) {
            let (head, rest) = out.split_at_mut(x.len() / self.d * width);
            parts.push((x, head));
            out = rest;
        }
        if self.threads == 1 {
            parts.into_iter().enumerate().for_each(|(index, (x, out))| run(index, x, out));
        } else {
            let parts = parts.into_par_iter().with_max_len(1).enumerate();
            parts.for_each(|(index, (x, out))| run(index, x, out));
        }
    }
}

/// As few blocks as fit the caches and keep all threads at work, of equal size.
fn block_rows(rows: usize, threads: usize) -> usize {
    let blocks = rows.div_ceil(MOST_ROWS).next_multiple_of(threads);
    rows.div_ceil(blocks.max(1)).clamp(LEAST_ROWS, MOST_ROWS)
}

/// Some rows of a pass.
pub(super) struct Block<'a> {
    pub(super) rows: Range<usize>,
    starts: &'a [usize],
    keys: &'a [usize],
    positions: Option<&'a [usize]>,
}

/// The rows of a block that belong to one sentence.
pub(super) struct Part {
    /// Of the sentence in the pass.
    pub(super) index: usize,
    /// What the sentence's rows look at.
    pub(super) sentence: Range<usize>,
    pub(super) rows: Range<usize>,
    /// Where the sentence's own rows start.
    start: usize,
}

impl Part {
    /// The block's rows, counted among those of the sentence that are in the pass.
    pub(super) fn places(&self) -> Range<usize> {
        self.rows.start - self.start..self.rows.end - self.start
    }
}

impl Block<'_> {
    /// The positions of a part's rows in their sentence.
    pub(super) fn positions(&self, part: &Part) -> impl Iterator<Item = usize> {
        let (rows, places) = (part.rows.clone(), part.places());
        rows.zip(places).map(|(row, place)| self.positions.map_or(place, |positions| positions[row]))
    }

    /// Sentences without rows have no part.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        let first = self.starts.partition_point(|&start| start <= self.rows.start) - 1;
        let sentences = self.starts.windows(2).zip(self.keys.windows(2)).enumerate().skip(first);
        sentences
            .take_while(|(_, (ends, _))| ends[0] < self.rows.end)
            .map(|(index, (ends, keys))| Part {
                index,
                sentence: keys[0]..keys[1],
                rows: self.rows.start.max(ends[0])..self.rows.end.min(ends[1]),
                start: ends[0],
            })
            .filter(|part| !part.rows.is_empty())
    }
}

#[cfg(test)]
mod tests;
