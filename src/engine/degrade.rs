//! Lowers the number of steps before requests are refused: a translation with fewer steps is a little worse, but
//! better than none.
//!
//! The steps of a request that allows it are lowered because of load ([`Degrade`], a policy of the operator) or
//! because the requested steps would miss the deadline ([`Latencies`], measured at the start). The module is pure:
//! waiting times and instants are arguments.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::decode::Steps;

/// Minimum time between two changes of the level, upwards and downwards. Downwards is slower, so that the quality
/// of answers does not alternate quickly.
const RISE_AFTER: Duration = Duration::from_millis(100);
const FALL_AFTER: Duration = Duration::from_secs(1);

/// Each level halves the steps: 32 become 1.
const TOP_LEVEL: u32 = 5;

/// When steps are lowered, by the expected waiting time of a new request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DegradePolicy {
    /// The level rises while the waiting time is longer than this.
    pub above: Duration,
    /// The level falls while it is shorter than this.
    pub below: Duration,
}

/// Why a request got fewer steps than it requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lowered {
    Load,
    Deadline,
}

/// The level of load, with hysteresis.
#[derive(Clone, Debug, Default)]
pub struct Degrade {
    policy: Option<DegradePolicy>,
    level: u32,
    changed: Option<Instant>,
}

impl Degrade {
    pub fn new(policy: Option<DegradePolicy>) -> Self {
        Self { policy, ..Self::default() }
    }

    pub fn level(&self) -> u32 {
        self.level
    }

    /// Adjusts the level to the waiting time of a new request.
    pub fn observe(&mut self, wait: Duration, now: Instant) {
        let Some(policy) = self.policy else { return };
        let since = self.changed.map_or(Duration::MAX, |changed| now.saturating_duration_since(changed));
        if wait > policy.above && since >= RISE_AFTER && self.level < TOP_LEVEL {
            self.level += 1;
        } else if wait < policy.below && since >= FALL_AFTER && self.level > 0 {
            // The level falls by one for each second without requests, too.
            let levels = since.as_secs() / FALL_AFTER.as_secs();
            self.level = self.level.saturating_sub(u32::try_from(levels).unwrap_or(u32::MAX));
        } else {
            return;
        }
        self.changed = Some(now);
    }

    /// The number of steps at the current level for a request that accepts no fewer than `min`.
    pub fn steps(&self, requested: Steps, min: Steps) -> Steps {
        lower(requested, min, requested.get().div_ceil(1 << self.level))
    }
}

/// `requested` limited to `max`, but at least `min`, and never more than `requested`.
pub fn lower(requested: Steps, min: Steps, max: usize) -> Steps {
    let max = u8::try_from(max).ok().and_then(Steps::new).unwrap_or(requested);
    requested.min(max).max(min.min(requested))
}

/// The measured time of one sentence on an idle engine, by its number of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Ascending by steps.
    measured: Vec<(Steps, Duration)>,
    /// Source tokens of the measured sentence.
    tokens: usize,
}

impl Latencies {
    pub fn new(mut measured: Vec<(Steps, Duration)>, tokens: usize) -> Self {
        measured.sort_by_key(|(steps, _)| *steps);
        Self { measured, tokens: tokens.max(1) }
    }

    pub fn measured(&self) -> &[(Steps, Duration)] {
        &self.measured
    }

    /// The measured numbers of steps below `steps`, in descending order.
    pub fn below(&self, steps: usize) -> impl Iterator<Item = usize> {
        self.measured
            .iter()
            .rev()
            .map(|(measured, _)| measured.get())
            .filter(move |&measured| measured < steps)
    }

    /// Expected time of a sentence of `tokens` source tokens; zero without measurements.
    pub fn expected(&self, steps: usize, tokens: usize) -> Duration {
        let at_least =
            self.measured.iter().find(|(measured, _)| measured.get() >= steps).or(self.measured.last());
        let longer = (tokens as f64 / self.tokens.max(1) as f64).max(1.0);
        at_least.map_or(Duration::ZERO, |(_, time)| time.mul_f64(longer))
    }
}

#[cfg(test)]
mod tests;
