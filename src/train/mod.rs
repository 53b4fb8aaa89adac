//! Everything that makes a model: data in, bundle out. Knows no server.
//!
//! [`config`] holds everything typed in a run's file, [`data`] makes batches of text, [`objective`] says what is minimised, [`update`] moves
//! the weights. [`stages`] put these together, one after another; [`bundle`] adds to what comes out, [`import`] takes over
//! models of other programs, [`measure`] scores them, [`observe`] reports. All chance comes from [`rng`].

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
