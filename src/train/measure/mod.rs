//! Measures models on parallel text.

pub mod evaluate;
pub mod report;
