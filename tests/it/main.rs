//! tutti from outside. The server as its clients see it, over TCP on port 0, with a fake network behind
//! a real tokenizer; the network, its bundle and its training as everyone else sees them.
//! One binary; a file for each subject. `process` runs the built program itself.

mod bundle;
mod clients;
mod default_model;
mod errors;
mod fairseq;
mod html;
mod imputer;
mod lm;
mod memory;
mod model;
mod operations;
mod overload;
mod page;
mod parallel;
mod pipeline;
mod process;
mod readme;
mod report;
mod serve;
mod shutdown;
mod stopping;
mod support;
mod teacher;
mod training;
