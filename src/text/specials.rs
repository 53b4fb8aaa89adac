//! Special tokens.

use serde::{Deserialize, Serialize};
use tokenizers::AddedToken;

/// Ids of the five special tokens. A translation contains none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specials {
    pub pad: u32,
    pub bos: u32,
    pub eos: u32,
    pub unk: u32,
    /// A masked position of a canvas; not the same as `<unk>`.
    pub mask: u32,
}

impl Specials {
    /// In the order of their ids, which are 0 to 4 in every tokenizer that `train tokenizer` makes.
    pub const NAMES: [&'static str; 5] = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"];

    /// Largest number of tokens that a tokenizer reserves for protected spans. Their ids follow the special tokens.
    pub const MAX_RESERVED: usize = 32;

    /// The name of a reserved token in a tokenizer's file. Text that spells it is encoded as text.
    pub fn reserved_name(index: usize) -> String {
        format!("<x{index}>")
    }

    /// The special tokens and `reserved` reserved tokens after them, for a new tokenizer.
    pub(super) fn tokens(reserved: usize) -> Vec<AddedToken> {
        let names = Self::NAMES.iter().map(|&name| name.to_owned());
        let reserved = (0..reserved).map(Self::reserved_name);
        names.chain(reserved).map(|name| AddedToken::from(name, true)).collect()
    }

    /// The blank of an Imputer. It has the id of `<unk>`, which no text needs, because the tokenizer of such a model
    /// has all bytes. (wav2vec2 of transformers uses `<pad>` in the same way.)
    pub fn blank(&self) -> u32 {
        self.unk
    }

    pub fn ids(&self) -> [u32; 5] {
        [self.pad, self.bos, self.eos, self.unk, self.mask]
    }
}

impl Default for Specials {
    fn default() -> Self {
        Self { pad: 0, bos: 1, eos: 2, unk: 3, mask: 4 }
    }
}
