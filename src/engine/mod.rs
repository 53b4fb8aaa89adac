//! Dynamic batching: many callers, one model thread.
//!
//! A caller hands a request's sentences to [`Handle::submit`], which admits all of them or none, and
//! awaits one [`Pending`] for each. The model thread owns the [`Translator`](crate::decode::Translator)
//! and repeats, as long as there is anything to do:
//!
//! 1. whoever gave up or ran out of time leaves, from the queue and from the running rows;
//! 2. the next batch is planned over running and waiting sentences alike;
//! 3. newcomers are encoded, then *one* decoder pass runs over the batch;
//! 4. sentences that have had their steps are answered.
//!
//! Nothing carries over from pass to pass but the canvas and the encoder's output. So requests with
//! different `steps` share passes, a sentence can sit out a pass, and what arrives while others run
//! joins the very next pass. There is no timer: an idle thread starts with what is there.
//!
//! Fewer steps come before a refusal (`degrade`); identical sentences are translated once (`coalesce`).
//!
//! * `queue` holds what is admitted; `plan` chooses a batch; `throughput` guesses waiting times. The three
//!   are pure: no threads, no clocks.
//! * `worker` is the model thread, `attempts` its calls of the network, `active` a sentence in its hands;
//!   `handle` is what callers hold, `admission` decides what it takes, `queued` is the answer to a sentence, `shared` the
//!   state between callers and the model thread.
//!
//! Order is by *virtual deadline*: a sentence that asks for T steps is due `T × (1 + max_overtakes_per_step)`
//! passes after its arrival. A one-step request therefore goes before the ten-step requests that are
//! running; and since a sentence's due pass never moves while newcomers' do, nothing starves.
//!
//! Knows no HTTP, no words, no tensors.

mod active;
mod admission;
mod attempts;
mod coalesce;
mod degrade;
mod handle;
mod plan;
mod queue;
mod queued;
mod shared;
mod throughput;
mod worker;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::decode::{Hypothesis, Steps};

pub use coalesce::Pending;
pub use degrade::{DegradePolicy, Latencies, Lowered};
pub use handle::{Engine, Handle, start};

/// Bounds of the queue and of a batch, and the threads that share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that compute a pass: the model thread and its helpers.
    pub threads: NonZeroUsize,
    /// Sentences that may wait.
    pub max_queue_items: usize,
    /// Tokens that may wait: sources and expected targets of all their canvases.
    pub max_queue_tokens: usize,
    /// Bound on `rows × (longest source + longest target)` of one decoder pass.
    pub max_batch_tokens: usize,
    /// Canvases in one decoder pass.
    pub max_batch_rows: usize,
    /// How long an idle model thread waits for company once the first sentence is there.
    pub max_delay: Duration,
    /// How many waiting sentences are looked at when a batch is planned.
    pub lookahead: usize,
    /// How many passes a sentence lets later but cheaper ones go first, for each step it costs for.
    pub max_overtakes_per_step: u32,
    /// When steps are lowered because of load; never, without.
    pub degrade: Option<DegradePolicy>,
    /// Whether identical sentences in flight are translated once.
    pub coalesce: bool,
    /// Bytes of translations that are kept for sentences that come again; 0 keeps none.
    pub cache_bytes: u64,
}

impl Default for Options {
    /// For sentences of some twelve tokens on a few CPU cores; one thread.
    fn default() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            max_queue_items: 2048,
            max_queue_tokens: 131_072,
            max_batch_tokens: 4096,
            max_batch_rows: 64,
            max_delay: Duration::ZERO,
            lookahead: 256,
            max_overtakes_per_step: 8,
            degrade: None,
            coalesce: false,
            cache_bytes: 0,
        }
    }
}

impl Options {
    /// Bounds of a batch that are 0 become what suits the device: the [defaults](Self::default) on a CPU; on a GPU,
    /// which takes `device_rows` tokens of all its sentences in one pass, so many sentences that it takes them without
    /// a pause, however short they are.
    pub fn fitted(self, device_rows: Option<usize>) -> Self {
        let or = |bound: usize, fitting: usize| if bound == 0 { fitting } else { bound };
        let cpu = Self::default();
        let Some(device_rows) = device_rows else {
            return Self {
                max_batch_tokens: or(self.max_batch_tokens, cpu.max_batch_tokens),
                max_batch_rows: or(self.max_batch_rows, cpu.max_batch_rows),
                lookahead: or(self.lookahead, cpu.lookahead),
                ..self
            };
        };
        // Both sides, and as much again for padding, which a GPU does not compute.
        let tokens = (4 * device_rows).max(cpu.max_batch_tokens);
        let rows = or(self.max_batch_rows, (device_rows / Self::LEAST_TOKENS).max(cpu.max_batch_rows));
        Self {
            max_batch_tokens: or(self.max_batch_tokens, tokens),
            max_batch_rows: rows,
            lookahead: or(self.lookahead, rows.max(cpu.lookahead)),
            ..self
        }
    }

    /// Of a sentence that is short on average.
    const LEAST_TOKENS: usize = 16;
}

/// One sentence to translate.
#[derive(Clone, Debug)]
pub struct Item {
    /// `bos x1..xn eos`.
    pub source: Vec<u32>,
    pub steps: Steps,
    /// Fewer than `steps` will do, but no fewer than these; equal to `steps` where they are to be kept.
    pub steps_min: Steps,
    /// How many target lengths are tried.
    pub length_beam: usize,
    /// How many further translations an Imputer's slots are read for.
    pub alternatives: usize,
    /// Whether equal neighbours are joined at the end.
    pub collapse: bool,
    /// Whether the canvases after each pass are wanted.
    pub trace: bool,
    /// The answer is worthless after this.
    pub deadline: Option<Instant>,
    /// Gets the canvas after each pass, while the sentence is on its way.
    pub watch: Option<Watch>,
}

/// Somebody who looks on while a sentence is translated.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Tells the sentences of one watcher apart.
    pub index: usize,
    pub sender: UnboundedSender<CanvasUpdate>,
}

/// The first canvas of a sentence (of the most probable length) after a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct CanvasUpdate {
    /// As in [`Watch::index`].
    pub index: usize,
    /// Passes so far.
    pub step: usize,
    /// With bos and eos, or slots alone.
    pub canvas: Vec<u32>,
    /// Of each place of the canvas.
    pub log_probs: Vec<f32>,
    pub at: Instant,
}

/// What can be said of a request before its texts are taken apart.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionEstimate {
    pub sentences: usize,
    /// Of all sources.
    pub tokens: usize,
    /// The fewest that will do.
    pub steps: Steps,
    pub length_beam: usize,
    pub deadline: Option<Instant>,
}

/// Where the time of one sentence went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From admission to being picked up by the model thread.
    pub queue: Duration,
    /// The encoder's call that this sentence shared.
    pub encode: Duration,
    /// From the end of the encoder's call to the end of the last pass.
    pub decode: Duration,
}

/// The answer for one [`Item`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each length of the beam and the alternatives, best first; never empty.
    pub hypotheses: Vec<Hypothesis>,
    /// Decoder passes that were taken.
    pub steps_used: usize,
    /// Why there were fewer than asked for.
    pub lowered: Option<Lowered>,
    pub timings: Timings,
    /// The best hypothesis' canvas after each pass, with bos and eos or of slots alone, before any collapse.
    pub trace: Option<Vec<Vec<u32>>>,
}
