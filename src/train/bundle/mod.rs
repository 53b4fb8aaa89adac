//! What is made of a trained bundle, and what goes into it besides weights.

pub mod calibrate;
pub mod card;
pub mod lm;
pub mod shortlist;
