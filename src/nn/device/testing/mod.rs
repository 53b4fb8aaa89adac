//! What only tests use.

pub mod emulated;
