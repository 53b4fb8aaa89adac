//! tutti from outside. The server as its clients see it, over TCP on port 0, with a fake network behind
//! a real tokenizer; the network, its bundle and its training as everyone else sees them.
//! One binary; a file for each subject. `process` runs the built program itself.

mod alternatives;
mod architecture;
mod bundle;
mod clients;
mod connections;
mod default_model;
mod dependencies;
mod documents;
mod errors;
mod fairseq;
mod fuzz;
mod html;
mod imputer;
mod keys;
mod lm;
mod memory;
mod mixture;
mod model;
mod models;
mod operations;
mod overload;
mod page;
mod parallel;
mod pipeline;
mod preflight;
mod process;
mod readme;
mod report;
mod serve;
mod shutdown;
mod stopping;
mod support;
mod teacher;
mod text;
mod toy;
mod traces;
mod training;
