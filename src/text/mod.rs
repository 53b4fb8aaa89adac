//! Text to token ids and back: the [`Tokenizer`] for sentences, and [`Passage`] for whole texts. Knows nothing of
//! networks.

mod ascii;
mod atom;
mod case;
mod characters;
mod fit;
mod layout;
mod passage;
mod peel;
mod pieces;
mod reader;
mod render;
mod request;
pub mod spans;
mod specials;
mod spelling;
mod split;
mod tokenizer;
mod unit;
mod wrapped;

pub use passage::{GivenSpan, Passage, ReadOptions};
pub use pieces::END_OF_WORD;
pub use reader::Reader;
pub use request::{Candidate, Effort, Request, Warning};
pub use specials::Specials;
pub use tokenizer::{DecodedPart, Part, Tokenizer};
pub use wrapped::{continues, is_open};
