//! How good a network is.

pub mod evaluate;
pub mod report;
