//! Helpers for tests and benchmarks; available outside of this crate with the feature `testing`.

pub mod fake;
