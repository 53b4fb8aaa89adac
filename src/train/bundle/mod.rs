//! What is made of a trained bundle, and what it holds besides weights.

pub mod calibrate;
pub mod card;
pub mod lm;
pub mod shortlist;
