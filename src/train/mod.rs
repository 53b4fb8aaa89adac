//! Everything that makes a model: data in, bundle out.
//!
//! Data comes in by [`corpus`] and is put together by [`batches`]; [`masking`] hides what is to be
//! learnt; [`optimizer`] and [`schedule`] move the weights. All chance comes from [`rng`]. Knows no server.

pub mod batches;
pub mod corpus;
pub mod masking;
pub mod optimizer;
pub mod rng;
pub mod schedule;
