//! Everything that makes a model: data in, bundle out.
//!
//! Data comes in by [`corpus`] and is put together by [`batches`]; [`masking`] hides what is to be
//! learnt; [`optimizer`] and [`schedule`] move the weights; [`checkpoint`] and [`log`] keep
//! what happened. [`config`] says how. All chance comes from [`rng`]. Knows no server.

pub mod batches;
pub mod checkpoint;
pub mod config;
pub mod corpus;
pub mod log;
pub mod masking;
pub mod objective;
pub mod optimizer;
pub mod rng;
pub mod schedule;
