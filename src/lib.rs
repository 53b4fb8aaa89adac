//! tutti translates with *parallel decoding*: the model predicts all target tokens at once and refines them in a
//! number of steps that each request chooses. README.md describes what it does; this page describes the code.
//!
//! # The path of a request
//!
//! 1. [`http`] reads a request, checks its limits, and admits it whole or not at all.
//! 2. [`text`] splits it into sentences and turns words into token ids.
//! 3. [`engine`] queues each sentence ([`Handle::submit`](engine::Handle::submit)). Before every pass, its model
//!    thread plans a batch of active and waiting sentences, so that a one-step request never waits for a ten-step
//!    one.
//! 4. [`model`] runs the encoder once, then one decoder pass for each step, on the layers of [`nn`].
//! 5. After each pass, [`decode`] decides which tokens stay on the [`Canvas`](decode::Canvas) and which are masked
//!    again.
//! 6. A sentence leaves the batch after its last step; [`text`] turns its tokens into words, [`http`] writes the
//!    answer.
//!
//! # Modules
//!
//! An arrow points from a module to one that it uses. A test compares this diagram with the sources. [`error`],
//! [`files`] and [`keys`] may be used everywhere.
//!
//! ```mermaid
//! graph LR
//!     http --> engine & decode & model & text & metrics & settings & formats & glossary & documents
//!     engine --> decode & text & metrics
//!     decode --> model & nn & text
//!     model --> nn & text
//!     settings --> engine & decode & model
//!     lines --> decode & text
//!     documents --> decode & text & formats & glossary
//!     flags --> model
//!     known --> decode & model & eval
//!     bench --> engine & decode & model & text & metrics
//!     train --> decode & model & nn & text & eval
//! ```
//!
//! * [`train`] makes models ([bundles](model::Bundle)) from parallel text; its page has its own diagram. [`eval`]
//!   scores translations.
//! * [`settings`] turns flags, environment and a file into one validated value; [`metrics`] holds every Prometheus
//!   series.
//! * [`formats`] splits documents into texts and reassembles them; [`glossary`] holds a client's terms.
//! * [`known`] checks a model against a sentence whose translation its bundle contains.
//! * [`lines`] is `tutti translate`, with `--format` [`documents`]; [`mod@bench`] is `tutti bench`; [`flags`] holds the
//!   flags that both programs have.
//! * [`error`] holds every error; [`files`] writes files and folders atomically; [`keys`] words the errors of
//!   settings and configurations.
//!
//! `nn`, `model`, `decode` and `text` do not depend on HTTP, tokio, metrics or settings; `engine` does not depend on
//! HTTP, `http` on tensors, or `train` on the server.

pub mod bench;
pub mod decode;
pub mod documents;
pub mod engine;
pub mod error;
pub mod eval;
pub mod files;
pub mod flags;
pub mod formats;
pub mod glossary;
pub mod http;
pub mod keys;
pub mod known;
pub mod lines;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod settings;
pub mod text;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};
