//! What only tests use.

pub mod recorded;
