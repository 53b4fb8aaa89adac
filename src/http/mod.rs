//! The HTTP server: reads requests, submits their sentences to the engine and writes the answers.
//!
//! [`serve`] runs the server from warm-up to drain; `lifecycle` holds its phase and decides how many requests it
//! admits. `connections` counts the open connections, `connection` serves one of them, `unread` discards bodies that
//! no handler read. [`router`] has the routes and the layers around them.
//! `body` and `params` read a request. Each API has a file or folder (`libretranslate`, `deepl`, `mtran`) that turns a
//! request into a `request::TranslateRequest` and writes the answer; `translation` translates it.
//! `page` is the web page, `probes` are for monitoring, and `healthcheck` calls one of them from outside.
//! `error` maps every error to a status and JSON, `dialect` to the format of each API. `trace` reads trace headers and
//! sends spans to a collector.
//!
//! The module knows no tensors: a model is a name, a tokenizer and the engine's handle.

mod admin;
mod app;
mod body;
mod connection;
mod connections;
mod deepl;
mod detect;
mod dialect;
mod docs;
mod error;
mod files;
mod glossaries;
mod glossary_store;
mod guard;
mod headers;
mod healthcheck;
mod keys;
mod languages;
mod libretranslate;
mod lifecycle;
mod models;
mod mtran;
mod page;
mod params;
mod probes;
mod reading;
mod request;
mod router;
mod routes;
mod serve;
mod shapes;
mod stream;
mod timings;
mod trace;
mod translation;
mod unread;
mod usage;
mod warm_up;

pub use app::{App, Model};
pub use connections::raise_open_files_limit;
pub use healthcheck::healthcheck;
pub use keys::{Keys, new_key};
pub use languages::Pair;
pub use lifecycle::Phase;
pub use models::{Loader, Models};
pub use router::router;
pub use routes::ROUTES;
pub use serve::{Listeners, serve};
pub use trace::Traces;
