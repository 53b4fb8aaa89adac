//! The training loop and its parts.

pub mod bench;
pub mod checkpoint;
pub mod ema;
pub mod initial;
pub mod memory;
pub mod optimizer;
pub mod ranks;
pub mod rate;
pub mod run;
pub mod schedule;
