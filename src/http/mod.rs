//! The network side: HTTP in, items to the engine, HTTP out.
//!
//! [`serve`] owns a listener and an [`App`] from warm-up to drain; [`router`] says which path goes where.
//! A request is read by `body` and `params`; each dialect has a file or folder that makes a
//! `request::TranslateRequest` of it (`libretranslate`, `deepl`, `mtran`) and writes the answer;
//! `translation` is what is between the two. `page` is for people, `probes` for machines that watch,
//! `healthcheck` asks them from outside. Whatever goes wrong becomes JSON in `error`.
//!
//! Knows no tensors: the model is a name, a tokenizer and an engine's handle.

mod app;
mod body;
mod deepl;
mod detect;
mod docs;
mod error;
mod files;
mod glossaries;
mod glossary_store;
mod headers;
mod healthcheck;
mod languages;
mod libretranslate;
mod mtran;
mod page;
mod params;
mod probes;
mod request;
mod router;
mod routes;
mod serve;
mod shapes;
mod stream;
mod timings;
mod translation;
mod usage;
mod warm_up;

pub use app::{App, Model, Phase};
pub use healthcheck::healthcheck;
pub use languages::Pair;
pub use router::router;
pub use routes::ROUTES;
pub use serve::serve;
