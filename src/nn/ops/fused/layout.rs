//! The real tokens of a padded batch without padding, in blocks of whole sentences. The intermediate values of a block
//! fit the cache.

use super::shared::Shared;
use super::tile::SIDE;

/// Largest number of rows of a block, unless one sentence has more.
const MAX_ROWS: usize = 512;

/// One sentence: its tokens are rows `first..first + len`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sentence {
    pub first: usize,
    pub len: usize,
}

/// Consecutive sentences. `rows` is a multiple of 32; the rows after the last sentence are empty.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub sentences: std::ops::Range<usize>,
    pub first: usize,
    pub rows: usize,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub sentences: Vec<Sentence>,
    pub blocks: Vec<Block>,
    /// Number of rows of all blocks.
    pub rows: usize,
    /// Number of tokens.
    pub real: usize,
    /// For each row its row in the padded batch; `None` for empty rows.
    pub padded: Vec<Option<u32>>,
    /// Rows of the padded batch without a token.
    gaps: Vec<std::ops::Range<usize>>,
}

impl Layout {
    /// The layout of sentences with these `lengths`, padded to `len`.
    pub fn new(lengths: &[usize], len: usize) -> Self {
        let mut layout =
            Self { sentences: vec![], blocks: vec![], rows: 0, real: 0, padded: vec![], gaps: vec![] };
        let mut begin = 0;
        while begin < lengths.len() {
            let (first, mut rows, mut end) = (layout.rows, 0, begin);
            while end < lengths.len() && (end == begin || rows + lengths[end] <= MAX_ROWS) {
                let padded = end * len;
                layout.sentences.push(Sentence { first: first + rows, len: lengths[end] });
                layout.padded.extend((padded..padded + lengths[end]).map(|row| Some(row as u32)));
                layout.gaps.push(padded + lengths[end]..padded + len);
                rows += lengths[end];
                end += 1;
            }
            layout.real += rows;
            let rows = rows.next_multiple_of(SIDE);
            layout.rows += rows;
            layout.padded.resize(layout.rows, None);
            layout.blocks.push(Block { sentences: begin..end, first, rows });
            begin = end;
        }
        layout
    }

    /// The layout of `count` independent rows without padding.
    pub fn of_rows(count: usize) -> Self {
        let block = |first: usize| {
            let rows = MAX_ROWS.min(count - first).next_multiple_of(SIDE);
            Block { sentences: 0..0, first, rows }
        };
        let blocks: Vec<Block> = (0..count).step_by(MAX_ROWS).map(block).collect();
        let rows = count.next_multiple_of(SIDE);
        Self { sentences: vec![], blocks, rows, real: count, padded: vec![], gaps: vec![] }
    }

    /// The `count` values of a padded batch of rows of `width` values. `write` gets their memory and writes the rows
    /// with tokens; the others are zeros. (Zeroing all rows first would be another pass over memory.)
    ///
    /// # Safety
    /// `write` must write every row with a token.
    pub unsafe fn batch(&self, count: usize, width: usize, write: impl FnOnce(&Shared<f32>)) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        let place = Shared::of(values.spare_capacity_mut().as_mut_ptr().cast::<f32>());
        for gap in &self.gaps {
            for value in gap.start * width..gap.end * width {
                // SAFETY: the capacity suffices for all rows of the batch.
                unsafe { place.at(value).write(0.0) }
            }
        }
        write(&place);
        // SAFETY: all rows are written: padding above, the others by `write`, as the caller guarantees.
        unsafe { values.set_len(count) }
        values
    }

    /// The sentences of a block.
    pub fn of(&self, block: &Block) -> &[Sentence] {
        &self.sentences[block.sentences.clone()]
    }
}
