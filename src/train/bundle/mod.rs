//! Everything that is added to a trained bundle or changed in it.

pub mod calibrate;
pub mod card;
pub mod lm;
pub mod lock;
pub mod shortlist;
