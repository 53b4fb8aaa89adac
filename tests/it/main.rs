//! The server as its clients see it: over TCP, on port 0, with a fake network behind a real tokenizer.
//! One binary; a file for each subject. `process` runs the built program itself.

mod errors;
mod operations;
mod overload;
mod process;
mod serve;
mod shutdown;
mod support;
mod training;
