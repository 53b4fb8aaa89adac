//! Words to ids and back. Knows nothing of networks.

mod specials;

pub use specials::Specials;
