//! What a run reports while it trains: to programs, to TensorBoard, to people.

pub mod event;
pub mod log;
pub mod machine;
pub mod progress;
pub mod tensorboard;

pub use machine::Machine;
