//! Parallel text from files to masked batches.

pub mod batches;
pub mod corpus;
pub mod interpolate;
pub mod masking;
pub mod test_set;
pub mod texts;
