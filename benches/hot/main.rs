//! Benchmarks of the parts of a request: words to ids, the queue, a pass of the network and its most expensive layers,
//! remasking. Compare only times of the same machine and minute: run with `--save-baseline before`, make the change, run
//! with `--baseline before`.
//!
//!     cargo bench --bench hot                    # all, about two minutes
//!     cargo bench --bench hot -- pass/decode     # one part, by name
//!
//! They run on one thread, so that times are reproducible; set `RAYON_NUM_THREADS` for more.

mod layers;
mod pass;
mod queue;
mod remask;
mod words;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tutti::model::Shape;

fn quick() -> Criterion {
    let threads =
        std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    // Fails for the second group, since the pool exists; that is fine.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

/// The shape in the tables of the README.
fn shape() -> Shape {
    "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000".parse().expect("a shape as `tutti bench` takes it")
}

/// `bos, words …, eos`, with other words for each seed.
fn source(seed: usize, words: usize) -> Vec<u32> {
    let words = (0..words).map(|place| 5 + ((seed * 31 + place * 7) % 7900) as u32);
    std::iter::once(1).chain(words).chain([2]).collect()
}

criterion_group! {
    name = hot;
    config = quick();
    targets = words::bench, queue::bench, remask::bench, layers::bench, pass::bench
}
criterion_main!(hot);
