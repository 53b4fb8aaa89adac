//! The tokens that are not words.

use serde::{Deserialize, Serialize};
use tokenizers::AddedToken;

/// Ids of the five special tokens. None of them may stand inside a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specials {
    pub pad: u32,
    pub bos: u32,
    pub eos: u32,
    pub unk: u32,
    /// The unknown place on a canvas; dedicated, never `<unk>` in another role.
    pub mask: u32,
}

impl Specials {
    /// In the order of their ids, which are 0 to 4 in every tokenizer that `train tokenizer` makes.
    pub const NAMES: [&'static str; 5] = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"];

    /// The most tokens that a tokenizer may reserve for protected spans. Their ids follow the special ones.
    pub const MAX_RESERVED: usize = 32;

    /// The name of a reserved token in a tokenizer's file. Text that spells it is encoded as text.
    pub fn reserved_name(index: usize) -> String {
        format!("<x{index}>")
    }

    /// The special tokens and `reserved` reserved ones behind them, for a tokenizer that is made.
    pub(super) fn tokens(reserved: usize) -> Vec<AddedToken> {
        let names = Self::NAMES.iter().map(|&name| name.to_owned());
        let reserved = (0..reserved).map(Self::reserved_name);
        names.chain(reserved).map(|name| AddedToken::from(name, true)).collect()
    }

    /// What an Imputer writes into a slot that stands for nothing. The tokenizer of such a model spells all bytes, so
    /// that no text needs this token. (Likewise the CTC of transformers' wav2vec2 has `<pad>` as its blank.)
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
