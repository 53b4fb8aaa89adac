//! Fewer steps before anybody is refused. A translation of fewer steps is a little worse; none at all is no help.
//!
//! Two reasons lower the steps of a request that allows it: the server's load ([`Degrade`], a policy of the
//! operator) and a deadline that the asked steps would miss ([`Latencies`], measured at the start).
//! Pure: waiting times and instants come in from outside.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::decode::Steps;

/// The least time between two changes of the level, upwards and downwards. Going down is slower, so that the
/// answers do not flicker between two qualities.
const RISE_AFTER: Duration = Duration::from_millis(100);
const FALL_AFTER: Duration = Duration::from_secs(1);

/// Each level halves the steps: 32 become 1.
const TOP_LEVEL: u32 = 5;

/// When steps are lowered, by the time that a newcomer would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DegradePolicy {
    /// One level more while the wait is longer than this.
    pub above: Duration,
    /// One level less while it is shorter than this.
    pub below: Duration,
}

/// Why a request got fewer steps than it asked for.
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

    /// A newcomer would wait for so long.
    pub fn observe(&mut self, wait: Duration, now: Instant) {
        let Some(policy) = self.policy else { return };
        let since = self.changed.map_or(Duration::MAX, |changed| now.saturating_duration_since(changed));
        if wait > policy.above && since >= RISE_AFTER && self.level < TOP_LEVEL {
            self.level += 1;
        } else if wait < policy.below && since >= FALL_AFTER && self.level > 0 {
            // Nobody may have come for a while.
            let levels = since.as_secs() / FALL_AFTER.as_secs();
            self.level = self.level.saturating_sub(u32::try_from(levels).unwrap_or(u32::MAX));
        } else {
            return;
        }
        self.changed = Some(now);
    }

    /// What a request of so many steps gets, of which it accepts no fewer than `least`.
    pub fn steps(&self, asked: Steps, least: Steps) -> Steps {
        lower(asked, least, asked.get().div_ceil(1 << self.level))
    }
}

/// `asked` bounded by `most`, but no less than `least`, and never more than `asked`.
pub fn lower(asked: Steps, least: Steps, most: usize) -> Steps {
    let most = u8::try_from(most).ok().and_then(Steps::new).unwrap_or(asked);
    asked.min(most).max(least.min(asked))
}

/// How long one sentence takes on an idle engine, by its steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Ascending by steps.
    measured: Vec<(Steps, Duration)>,
    /// Source tokens of the sentence that was measured.
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

    /// Numbers of steps that were measured, below `steps`, the highest first.
    pub fn below(&self, steps: usize) -> impl Iterator<Item = usize> {
        self.measured
            .iter()
            .rev()
            .map(|(measured, _)| measured.get())
            .filter(move |&measured| measured < steps)
    }

    /// For a sentence of so many source tokens; nothing where nothing was measured.
    pub fn expected(&self, steps: usize, tokens: usize) -> Duration {
        let at_least =
            self.measured.iter().find(|(measured, _)| measured.get() >= steps).or(self.measured.last());
        let longer = (tokens as f64 / self.tokens.max(1) as f64).max(1.0);
        at_least.map_or(Duration::ZERO, |(_, time)| time.mul_f64(longer))
    }
}

#[cfg(test)]
mod tests;
