//! The tokens that are not words.

use serde::{Deserialize, Serialize};

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

    pub fn ids(&self) -> [u32; 5] {
        [self.pad, self.bos, self.eos, self.unk, self.mask]
    }
}

impl Default for Specials {
    fn default() -> Self {
        Self { pad: 0, bos: 1, eos: 2, unk: 3, mask: 4 }
    }
}
