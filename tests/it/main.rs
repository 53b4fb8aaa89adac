//! tutti from outside: the server over TCP on port 0, with a fake network and a real tokenizer; the network, its
//! bundle and its training through the public interface; and the built programs (`process`).
//!
//! One binary with one file for each subject.

mod access_log;
mod alternatives;
mod architecture;
mod bench;
mod bundle;
mod clients;
mod commands;
mod connections;
mod contributing;
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
mod locks;
mod memory;
mod mixture;
mod model;
mod models;
mod open_files;
mod operations;
mod overload;
mod page;
mod parallel;
mod pipeline;
mod preflight;
mod process;
mod program;
mod readme;
mod reload;
mod renamed;
mod report;
mod scripts;
mod serve;
mod shutdown;
mod stopping;
mod support;
mod teacher;
mod text;
mod toy;
mod traces;
mod training;
