//! Dynamic batching: many callers, one model thread.
//!
//! A caller submits the sentences of a request with [`Handle::submit`], which admits all of them or none, and
//! awaits one [`Pending`] for each. The model thread owns the [`Translator`](crate::decode::Translator)
//! and repeats:
//!
//! 1. It removes cancelled and expired sentences from the queue and from the active ones.
//! 2. It plans the next batch over active and waiting sentences.
//! 3. It encodes the new sentences of the batch, then runs *one* decoder pass.
//! 4. It answers the sentences that have finished their steps.
//!
//! Only the canvas and the encoder's output are kept between passes. So requests with different `steps` share
//! passes, a sentence can skip a pass, and a sentence that arrives during a pass can join the next one. There is
//! no timer: an idle thread starts at once.
//!
//! Steps are lowered before requests are refused (`degrade`); identical sentences are translated once (`coalesce`).
//!
//! * `queue` holds admitted sentences; `plan` chooses a batch; `throughput` estimates waiting times. The three
//!   are pure: no threads, no clocks.
//! * `worker` is the model thread, `attempts` its calls of the network, `active` a sentence that it decodes;
//!   `handle` is the API for callers, `admission` decides what is admitted, `queued` is the answer to a sentence,
//!   `shared` the state that callers and the model thread share.
//!
//! Sentences are ordered by *virtual deadline*: a sentence of T steps is due `T × (1 + max_overtakes_per_step)`
//! passes after its arrival. So a one-step request goes before active ten-step requests. No sentence starves,
//! because its due pass is fixed, while later arrivals are due later.
//!
//! The engine knows no HTTP, no words, no tensors.

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

/// Limits of the queue and of a batch, and the number of threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that compute a pass: the model thread and its helpers.
    pub threads: NonZeroUsize,
    /// Maximum number of waiting sentences.
    pub max_queue_items: usize,
    /// Maximum number of waiting tokens: sources and expected targets of all canvases.
    pub max_queue_tokens: usize,
    /// Maximum of `rows × (longest source + longest target)` of one decoder pass.
    pub max_batch_tokens: usize,
    /// Maximum number of canvases in one decoder pass.
    pub max_batch_rows: usize,
    /// How long an idle model thread waits for more sentences after the first one.
    pub max_delay: Duration,
    /// Number of waiting sentences that are considered for a batch.
    pub lookahead: usize,
    /// For how many passes later sentences with fewer steps may go first, for each step of a sentence.
    pub max_overtakes_per_step: u32,
    /// When steps are lowered because of load; `None` for never.
    pub degrade: Option<DegradePolicy>,
    /// Whether identical sentences in flight are translated once.
    pub coalesce: bool,
    /// Size of the cache of translations in bytes; 0 for none.
    pub cache_bytes: u64,
}

impl Default for Options {
    /// Suits sentences of about twelve tokens on a few CPU cores.
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
    /// Replaces limits of a batch that are 0 by values for the device: the [defaults](Self::default) on a CPU. A
    /// GPU computes `device_rows` tokens in one pass; the values for it are large enough to fill a pass with short
    /// sentences.
    pub fn fitted(self, device_rows: Option<usize>) -> Self {
        let or = |limit: usize, default: usize| if limit == 0 { default } else { limit };
        let cpu = Self::default();
        let Some(device_rows) = device_rows else {
            return Self {
                max_batch_tokens: or(self.max_batch_tokens, cpu.max_batch_tokens),
                max_batch_rows: or(self.max_batch_rows, cpu.max_batch_rows),
                lookahead: or(self.lookahead, cpu.lookahead),
                ..self
            };
        };
        // Twice for source and target, and twice for padding, which a GPU does not compute.
        let tokens = (4 * device_rows).max(cpu.max_batch_tokens);
        let rows = or(self.max_batch_rows, (device_rows / Self::SHORT_SENTENCE).max(cpu.max_batch_rows));
        Self {
            max_batch_tokens: or(self.max_batch_tokens, tokens),
            max_batch_rows: rows,
            lookahead: or(self.lookahead, rows.max(cpu.lookahead)),
            ..self
        }
    }

    /// Tokens of a short sentence.
    const SHORT_SENTENCE: usize = 16;
}

/// One sentence to translate.
#[derive(Clone, Debug)]
pub struct Item {
    /// `bos x1..xn eos`.
    pub source: Vec<u32>,
    pub steps: Steps,
    /// The lowest acceptable number of steps; equal to `steps` if it must not be lowered.
    pub steps_min: Steps,
    /// Number of target lengths that are tried.
    pub length_beam: usize,
    /// Number of further translations that are read from an Imputer's slots.
    pub alternatives: usize,
    /// Whether equal adjacent tokens are joined at the end.
    pub collapse: bool,
    /// Whether the answer contains the canvas after each pass.
    pub trace: bool,
    /// After this time, the sentence is not translated any more.
    pub deadline: Option<Instant>,
    /// Receives the canvas after each pass.
    pub watch: Option<Watch>,
    /// Whether the answer contains its [`Schedule`].
    pub schedule: bool,
}

/// Receives the canvas of a sentence after each pass.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Identifies the sentence among those of the watcher.
    pub index: usize,
    pub sender: UnboundedSender<CanvasUpdate>,
}

/// The first canvas of a sentence (of the most probable length) after a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct CanvasUpdate {
    /// As in [`Watch::index`].
    pub index: usize,
    /// Number of passes so far.
    pub step: usize,
    /// With bos and eos, or only slots.
    pub canvas: Vec<u32>,
    /// For each place of the canvas.
    pub log_probs: Vec<f32>,
    pub at: Instant,
}

/// The estimated size of a request, before its texts are split and tokenized.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionEstimate {
    pub sentences: usize,
    /// Of all sources.
    pub tokens: usize,
    /// The lowest acceptable number.
    pub steps: Steps,
    pub length_beam: usize,
    pub deadline: Option<Instant>,
}

/// The durations of the stages of one sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From admission until the model thread takes the sentence.
    pub queue: Duration,
    /// The call of the encoder with this sentence.
    pub encode: Duration,
    /// From the end of that call until the predictions of the last pass are applied: the passes and the search between
    /// them.
    pub decode: Duration,
}

/// The answer for one [`Item`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each length of the beam and for each alternative, best first; never empty.
    pub hypotheses: Vec<Hypothesis>,
    /// Number of decoder passes.
    pub steps_used: usize,
    /// Why there were fewer steps than requested.
    pub lowered: Option<Lowered>,
    pub timings: Timings,
    /// The canvas of the best hypothesis after each pass, with bos and eos or only slots, before any collapse.
    pub trace: Option<Vec<Vec<u32>>>,
    /// If the item asked for it; `None` if the answer is that of another item or from the cache. Boxed, because most
    /// outcomes have none.
    pub schedule: Option<Box<Schedule>>,
}

/// The times at which a sentence went from one stage to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub submitted: Instant,
    /// When the model thread took the sentence.
    pub picked: Instant,
    /// The end of the call of the encoder.
    pub encoded: Instant,
    /// Start and end of each decoder pass with this sentence.
    pub passes: Vec<(Instant, Instant)>,
}
