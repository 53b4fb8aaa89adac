//! Where the time of a request went, for `Server-Timing` and for `meta`.

use std::fmt::Write;
use std::time::Duration;

use axum::http::HeaderValue;
use serde_json::Value;

use crate::engine::Outcome;

/// The stages of a request. Its sentences are translated side by side, so each stage is that of the
/// slowest sentence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    pub tokenize: Duration,
    pub queue: Duration,
    pub encode: Duration,
    pub decode: Duration,
    pub detokenize: Duration,
    /// From the head of the request to its answer: all of the above, and what is between them.
    pub total: Duration,
}

impl Stages {
    pub fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        outcomes.fold(Self::default(), |stages, outcome| Self {
            queue: stages.queue.max(outcome.timings.queue),
            encode: stages.encode.max(outcome.timings.encode),
            decode: stages.decode.max(outcome.timings.decode),
            ..stages
        })
    }

    /// A second round of sentences waited for the first one.
    pub fn followed_by(self, later: Self) -> Self {
        Self {
            queue: self.queue + later.queue,
            encode: self.encode + later.encode,
            decode: self.decode + later.decode,
            ..self
        }
    }

    fn named(&self) -> [(&'static str, Duration); 6] {
        [
            ("tokenize", self.tokenize),
            ("queue", self.queue),
            ("encode", self.encode),
            ("decode", self.decode),
            ("detokenize", self.detokenize),
            ("total", self.total),
        ]
    }

    /// `Server-Timing`, durations in milliseconds.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = String::with_capacity(128);
        for (name, duration) in self.named() {
            let (comma, micros) = (if text.is_empty() { "" } else { ", " }, duration.as_micros());
            // Whole numbers are several times cheaper to write than fractions, and this is on every answer.
            write!(text, "{comma}{name};dur={}.{:03}", micros / 1000, micros % 1000).ok()?;
        }
        HeaderValue::try_from(text).ok()
    }

    /// Milliseconds, to the microsecond.
    pub fn milliseconds(&self) -> serde_json::Map<String, Value> {
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1000.0;
        self.named().map(|(name, time)| (name.to_owned(), milliseconds(time).into())).into_iter().collect()
    }
}
