//! The network side: HTTP in, items to the engine, HTTP out.
//!
//! [`serve`] owns the listeners and an [`App`] from warm-up to drain; `connections` counts what is open,
//! `connection` is one of them, `unread` discards bodies that no handler read. [`router`] says which path goes where.
//! A request is read by `body` and `params`; each dialect has a file or folder that makes a
//! `request::TranslateRequest` of it (`libretranslate`, `deepl`, `mtran`) and writes the answer;
//! `translation` is between the two. `page` is for people, `probes` for monitoring; `healthcheck` asks them from outside.
//! `error` turns every error into JSON, `dialect` into the shape of its route; `trace` carries a request's trace on.
//!
//! Knows no tensors: the model is a name, a tokenizer and an engine's handle.

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

pub use app::{App, Model, Phase};
pub use connections::raise_open_files_limit;
pub use healthcheck::healthcheck;
pub use keys::{Keys, new_key};
pub use languages::Pair;
pub use models::{Loader, Models};
pub use router::router;
pub use routes::ROUTES;
pub use serve::{Listeners, serve};
