//! Models that other programs trained.

pub mod fairseq;
pub mod marian;
