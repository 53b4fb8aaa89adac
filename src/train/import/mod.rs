//! Imports models trained by other programs.

pub mod fairseq;
pub mod marian;
