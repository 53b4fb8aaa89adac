//! The real tokens of a padded batch, one after the other, in blocks of whole sentences whose intermediate values fit the cache.

use super::tile::SIDE;

/// Most rows of a block, unless one sentence has more.
const MOST_ROWS: usize = 512;

/// One sentence: its tokens are rows `first..first + len`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sentence {
    pub first: usize,
    pub len: usize,
}

/// Some sentences. `rows` is a multiple of 32: rows beyond the last sentence's are empty.
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
    /// Of all blocks.
    pub rows: usize,
    /// The tokens.
    pub real: usize,
    /// For each row its row in the batch; none where it is empty.
    pub padded: Vec<Option<u32>>,
}

impl Layout {
    /// Of sentences so long, padded to `len`.
    pub fn new(lengths: &[usize], len: usize) -> Self {
        let mut layout = Self { sentences: vec![], blocks: vec![], rows: 0, real: 0, padded: vec![] };
        let mut begin = 0;
        while begin < lengths.len() {
            let (first, mut rows, mut end) = (layout.rows, 0, begin);
            while end < lengths.len() && (end == begin || rows + lengths[end] <= MOST_ROWS) {
                let padded = end * len;
                layout.sentences.push(Sentence { first: first + rows, len: lengths[end] });
                layout.padded.extend((padded..padded + lengths[end]).map(|row| Some(row as u32)));
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

    /// Of so many rows that have nothing to do with one another.
    pub fn of_rows(count: usize) -> Self {
        let block = |first: usize| {
            let rows = MOST_ROWS.min(count - first).next_multiple_of(SIDE);
            Block { sentences: 0..0, first, rows }
        };
        let blocks: Vec<Block> = (0..count).step_by(MOST_ROWS).map(block).collect();
        let rows = count.next_multiple_of(SIDE);
        Self { sentences: vec![], blocks, rows, real: count, padded: vec![] }
    }

    /// The sentences of a block.
    pub fn of(&self, block: &Block) -> &[Sentence] {
        &self.sentences[block.sentences.clone()]
    }
}
