//! Scores of a model on parallel text.

pub mod evaluate;
pub mod report;
