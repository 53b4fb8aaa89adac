//! Training: makes a [bundle](crate::model::Bundle) from parallel text. Knows nothing of the server.
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
//! * [`config`] holds the settings of a run's TOML file.
//! * [`data`] reads parallel text and makes masked batches of it.
//! * [`objective`] has one file for each loss, [`update`] the training loop that minimizes it.
//! * [`stages`] has one file for each of `train ar`, `train distill`, `train parallel` and `train dims`, and the
//!   pipeline that runs them in order.
//! * [`bundle`] adds a shortlist or a language model to a bundle, calibrates its logits and locks it; [`import`]
//!   converts models of other programs.
//! * [`measure`] scores models, [`observe`] reports the progress of a run.
//! * [`rng`] is the source of all randomness.

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
