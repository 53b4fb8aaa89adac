//! Everything that makes a model: data in, bundle out. All chance comes from [`rng`]. Knows no server.

pub mod batches;
pub mod corpus;
pub mod masking;
pub mod rng;
