//! Everything that makes a model: data in, bundle out.
//!
//! Data comes in by [`corpus`] ([`texts`] is all that a stage reads) and is put together by [`batches`]; [`masking`] hides what is to be
//! learnt, `initial` is where the weights begin, [`optimizer`] and [`schedule`] move the weights, [`ema`] averages them; [`checkpoint`], [`log`] and
//! [`tensorboard`] keep what happened. [`run`] is the loop around all this, [`parallel`] shares it among GPUs, [`objective`] is what it minimises; [`ar`],
//! [`cmlm`] and [`dims`] are the stages that use it, [`vocabulary`] is the one before them, [`distill`] writes text
//! with what the first of them made, [`calibrate`] has the last word on the
//! logits of a bundle, and [`pipeline`] runs all in order. [`evaluate`] and [`report`] say how good
//! it all is, [`bench`] how fast. [`fairseq`] takes over
//! models that were trained there. [`config`] says how. All chance comes from [`rng`]. Knows no server.

pub mod allocator;
pub mod ar;
pub mod batches;
pub mod bench;
pub mod calibrate;
mod card;
pub mod checkpoint;
pub mod cmlm;
pub mod config;
pub mod corpus;
pub mod dims;
pub mod distill;
pub mod ema;
pub mod evaluate;
pub mod fairseq;
mod initial;
pub mod interpolate;
pub mod lexicon;
pub mod lm;
pub mod log;
pub mod marian;
pub mod masking;
mod memory;
pub mod objective;
pub mod optimizer;
pub mod parallel;
pub mod pipeline;
mod progress;
mod rate;
pub mod report;
pub mod rng;
pub mod run;
pub mod schedule;
pub mod tensorboard;
pub mod texts;
pub mod vocabulary;
pub mod weights;
