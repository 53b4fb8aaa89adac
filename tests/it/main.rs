//! The server as its clients see it: over TCP, on port 0, with a fake network behind a real tokenizer;
//! and the network and its bundle as everyone else sees them.
//! One binary; a file for each subject. `process` runs the built program itself.

mod bundle;
mod errors;
mod model;
mod operations;
mod overload;
mod process;
mod serve;
mod shutdown;
mod support;
