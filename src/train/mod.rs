//! Everything that makes a model: text in, [bundle](crate::model::Bundle) out. Knows no server.
//!
//! ```mermaid
//! graph LR
//!     stages --> config & data & objective & update & bundle & import & observe & weights
//!     update --> config & data & objective & measure & observe & rng & weights
//!     objective --> config & data & rng
//!     bundle --> config & data
//!     measure --> data & observe
//!     data --> config & observe & rng
//! ```
//!
//! * [`config`] holds everything typed in a run's TOML file.
//! * [`data`] reads parallel text and makes masked batches of it.
//! * [`objective`] has one file for each loss, [`update`] the training loop that minimises it.
//! * [`stages`] are `train ar`, `train distill`, `train parallel` and `train dims`, and the pipeline that runs them in order.
//! * [`bundle`] adds a shortlist or a language model to a bundle and calibrates its logits; [`import`] converts models of other programs.
//! * [`measure`] scores a model, [`observe`] reports what a run does.
//! * All chance comes from [`rng`].

pub mod allocator;
pub mod bundle;
pub mod config;
pub mod data;
pub mod import;
pub mod measure;
pub mod objective;
pub mod observe;
pub mod rng;
pub mod stages;
pub mod update;
pub mod weights;
