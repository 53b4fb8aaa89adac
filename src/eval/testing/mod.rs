//! Helpers for tests.

pub mod recorded;
