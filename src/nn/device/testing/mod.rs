//! Helpers for tests.

pub mod emulated;
