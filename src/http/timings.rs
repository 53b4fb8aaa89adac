//! The durations of a request's stages, for `Server-Timing` and `meta`.

use std::fmt::Write;
use std::time::Duration;

use axum::http::HeaderValue;
use serde_json::Value;

use crate::engine::Outcome;

/// The durations of a request's stages. Its sentences are translated at the same time, so each stage is that of the
/// slowest sentence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    pub tokenize: Duration,
    pub queue: Duration,
    pub encode: Duration,
    pub decode: Duration,
    pub detokenize: Duration,
    /// From the head of the request to its response: all stages and the time between them.
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

    /// Adds a second round of sentences, which waited for the first one.
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

    /// The value of `Server-Timing`, with durations in milliseconds.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = String::with_capacity(128);
        for (name, duration) in self.named() {
            let (comma, micros) = (if text.is_empty() { "" } else { ", " }, duration.as_micros());
            // Integers are several times cheaper to write than fractions, and every response has them.
            write!(text, "{comma}{name};dur={}.{:03}", micros / 1000, micros % 1000).ok()?;
        }
        HeaderValue::try_from(text).ok()
    }

    /// Milliseconds, rounded to microseconds.
    pub fn milliseconds(&self) -> serde_json::Map<String, Value> {
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1000.0;
        self.named().map(|(name, time)| (name.to_owned(), milliseconds(time).into())).into_iter().collect()
    }
}
