//! What every request goes through, each part alone: words to ids, the queue, a pass of the network and
//! its dearest layers, remasking. Times mean something only beside others of the same machine and
//! minute: `--save-baseline before`, change, `--baseline before`.
//!
//!     cargo bench --bench hot                    # all of it, some two minutes
//!     cargo bench --bench hot -- pass/decode     # a part, by name
//!
//! On one thread, so that figures repeat; `RAYON_NUM_THREADS` says otherwise.

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
    // A second group finds the pool built.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

/// That of the README's tables.
fn shape() -> Shape {
    "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000".parse().expect("a shape as `tutti bench` takes it")
}

/// `bos, words …, eos`, another text for each seed.
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
