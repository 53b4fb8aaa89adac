//! Words to ids and back: the [`Tokenizer`], and [`split`] for texts longer than a sentence. Knows
//! nothing of networks.

mod ascii;
mod document;
mod pieces;
pub mod spans;
mod specials;
mod spelling;
mod split;
mod tokenizer;

pub use document::Document;
pub use pieces::END_OF_WORD;
pub use specials::Specials;
pub use split::{Piece, rejoin, split, split_to_fit};
pub use tokenizer::Tokenizer;
