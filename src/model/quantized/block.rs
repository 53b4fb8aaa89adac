//! How threads share the rows of a batch: in groups of whole sentences, each computed by one thread from start to
//! end, or, for few sentences, in blocks of rows within a phase.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::scratch::Scratch;
use crate::nn::int8::kernel::Path;

/// Least rows of a group: enough for a few tiles. With fewer rows for each thread there are no groups.
const GROUP_ROWS: usize = 42;
/// Largest number of rows in a block.
const MAX_ROWS: usize = 112;
/// A block of fewer rows is not worth a thread, because each block reads all weights.
const MIN_ROWS: usize = 4;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Calls `f(sentences, threads)` for ranges of sentences with these `lengths`, and returns the results in order.
/// Either each range is computed by one thread, and ranges run in parallel; or one range holds all sentences and is
/// computed by all threads.
pub(super) fn by_groups<T: Send>(
    lengths: &[usize],
    f: impl Fn(Range<usize>, usize) -> T + Sync + Send,
) -> Vec<T> {
    let threads = rayon::current_num_threads();
    match groups_of(lengths, threads, Path::best().rows_at_once()) {
        Some(groups) if threads == 1 => groups.into_iter().map(|group| f(group, 1)).collect(),
        Some(groups) => groups.into_par_iter().with_max_len(1).map(|group| f(group, 1)).collect(),
        None if threads == 1 => vec![f(0..lengths.len(), 1)],
        // On a thread of the pool, so that starting a phase needs no handover.
        None => rayon::scope(|_| vec![f(0..lengths.len(), threads)]),
    }
}

/// The groups for this number of threads. `None` if threads would be idle for long, because sentences are few or one
/// is much longer than the others.
fn groups_of(lengths: &[usize], threads: usize, at_once: usize) -> Option<Vec<Range<usize>>> {
    let rows: usize = lengths.iter().sum();
    if rows < threads * GROUP_ROWS {
        return None;
    }
    let groups = cut(lengths, (rows / GROUP_ROWS.max(at_once)).max(1).next_multiple_of(threads));
    let longest = groups.iter().map(|group| lengths[group.clone()].iter().sum()).max().unwrap_or(0);
    // The largest group may exceed a thread's share by an eighth.
    (longest * threads * 8 <= rows * 9).then_some(groups)
}

/// Cuts sentences into at most `groups` ranges of similar numbers of rows.
fn cut(lengths: &[usize], groups: usize) -> Vec<Range<usize>> {
    let rows: usize = lengths.iter().sum();
    let mut ranges = Vec::with_capacity(groups);
    let (mut start, mut before) = (0, 0);
    for (i, len) in lengths.iter().enumerate() {
        before += len;
        // Cut where the distance to the ideal border is smallest.
        let border = rows * (ranges.len() + 1) / groups;
        let next = lengths.get(i + 1).copied().unwrap_or(0);
        if before + next / 2 >= border || i + 1 == lengths.len() {
            ranges.push(start..i + 1);
            start = i + 1;
        }
    }
    ranges
}

/// A pass over the packed rows of several sentences, on several threads.
pub(super) struct QuantizedPass<'a> {
    /// The first row of each sentence, and the end of the last one.
    pub(super) starts: &'a [usize],
    /// The same for keys and values. They differ from `starts` in a pass over only some rows of each sentence.
    pub(super) keys: &'a [usize],
    /// In a pass over only some rows: the position of each row in its sentence.
    pub(super) positions: Option<&'a [usize]>,
    pub(super) d: usize,
    pub(super) threads: usize,
}

/// Start offsets of consecutive sentences, and the end of the last one.
pub(super) fn starts(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut end = 0;
    std::iter::once(0)
        .chain(lengths.map(|len| {
            end += len;
            end
        }))
        .collect()
}

impl QuantizedPass<'_> {
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
        let size = block_rows(rows, self.threads, Path::best().rows_at_once());
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
        // Blocks are cut by `x`, because a phase may have no output.
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

/// Rows of a block: as few blocks as fit the caches and occupy all threads, of equal size.
fn block_rows(rows: usize, threads: usize, at_once: usize) -> usize {
    let most = MAX_ROWS / at_once * at_once;
    let blocks = rows.div_ceil(most).next_multiple_of(threads);
    rows.div_ceil(blocks.max(1)).clamp(MIN_ROWS, most)
}

/// A range of rows of a pass.
pub(super) struct Block<'a> {
    pub(super) rows: Range<usize>,
    starts: &'a [usize],
    keys: &'a [usize],
    positions: Option<&'a [usize]>,
}

/// The rows of a block that belong to one sentence.
pub(super) struct Part {
    /// Index of the sentence in the pass.
    pub(super) index: usize,
    /// The rows of keys and values that the sentence attends to.
    pub(super) sentence: Range<usize>,
    pub(super) rows: Range<usize>,
    /// First row of the sentence in the pass.
    start: usize,
}

impl Part {
    /// The part's rows, counted from the start of the sentence.
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

    /// The parts of the block, one for each sentence that has rows in it.
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
