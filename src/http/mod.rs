//! The network side: HTTP in, items to the engine, HTTP out.
//!
//! [`serve`] owns a listener and an [`App`] from warm-up to drain. [`router`] says which path goes
//! where; `translate` is the own dialect (`params` and `ask` read it, `answer` writes it); `probes` is for
//! machines that watch, `healthcheck` asks them from outside. Whatever goes wrong becomes JSON in `error`.
//!
//! Knows no tensors and no files: the model is a name, a tokenizer and an engine's handle.

mod answer;
mod app;
mod ask;
mod error;
mod healthcheck;
mod languages;
mod params;
mod probes;
mod router;
mod serve;
mod translate;

pub use app::{App, Model, Phase};
pub use healthcheck::healthcheck;
pub use languages::Pair;
pub use router::{ROUTES, router};
pub use serve::serve;
