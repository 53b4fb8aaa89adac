//! Reports of a run: for programs, for TensorBoard and for people.

pub mod event;
pub mod log;
pub mod machine;
pub mod progress;
pub mod tensorboard;

pub use machine::Machine;
