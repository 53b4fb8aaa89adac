//! How long what waits will take: a moving average of the work done in a second, over passes that left
//! somebody waiting. Other passes are smaller than they could be, and their pace says little of what a
//! full batch does.

use std::time::Duration;

/// What a refused caller is told at least and at most.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The weight of a pass halves with every 22 that follow it.
const NEWEST: f64 = 1.0 / 32.0;

/// Work (tokens times passes) and time of recent full passes, both with fading weights. Their quotient is
/// the pace; averaging quotients instead would let one tiny pass count as much as a full one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThroughputEstimate {
    work: f64,
    seconds: f64,
}

impl ThroughputEstimate {
    /// One pass that could not take everybody did `work` in `elapsed`, encoding included.
    pub fn record(&mut self, work: u64, elapsed: Duration) {
        self.work += NEWEST * (work as f64 - self.work);
        self.seconds += NEWEST * (elapsed.as_secs_f64() - self.seconds);
    }

    /// Whether `work` in `elapsed` is faster than what is remembered, so that even a small pass shows it
    /// to be wrong. Without this a stall would be believed for as long as it keeps everybody away.
    pub fn is_beaten_by(&self, work: u64, elapsed: Duration) -> bool {
        self.work > 0.0 && elapsed < self.time_for(work)
    }

    /// How long `work` will take; nothing, as long as nobody ever had to wait.
    pub fn time_for(&self, work: u64) -> Duration {
        let seconds = if self.work > 0.0 { work as f64 * self.seconds / self.work } else { 0.0 };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// When a caller may try again if `work` waits now.
    pub fn retry_after(&self, work: u64) -> Duration {
        self.time_for(work).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests;
