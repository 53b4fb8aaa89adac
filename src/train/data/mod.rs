//! From parallel text in files to masked batches.

pub mod augment;
pub mod batches;
pub mod corpus;
pub mod domains;
pub mod feed;
pub mod interpolate;
mod lines;
pub mod masking;
pub mod mixture;
mod template;
pub mod test_set;
pub mod texts;
