//! Estimates how long waiting work will take, from a moving average of the work done in a second. Only passes that
//! left sentences waiting count: other passes are not full, so their throughput is too low.

use std::time::Duration;

/// Limits of `retry_after`.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Weight of the newest pass. The weight of a pass halves with every 22 that follow it.
const NEWEST: f64 = 1.0 / 32.0;

/// Exponential moving averages of the work (tokens times passes) and the time of recent full passes. Their
/// quotient is the throughput; an average of quotients would let a small pass count as much as a full one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThroughputEstimate {
    work: f64,
    seconds: f64,
}

impl ThroughputEstimate {
    /// Records a full pass that did `work` in `elapsed`, including encoding.
    pub fn record(&mut self, work: u64, elapsed: Duration) {
        self.work += NEWEST * (work as f64 - self.work);
        self.seconds += NEWEST * (elapsed.as_secs_f64() - self.seconds);
    }

    /// Whether `work` in `elapsed` is faster than the estimate, so that even a small pass shows the estimate to be
    /// wrong. Otherwise a stall would keep the estimate low for as long as it causes refusals.
    pub fn is_beaten_by(&self, work: u64, elapsed: Duration) -> bool {
        self.work > 0.0 && elapsed < self.time_for(work)
    }

    /// Expected time of `work`; zero before the first record.
    pub fn time_for(&self, work: u64) -> Duration {
        let seconds = if self.work > 0.0 { work as f64 * self.seconds / self.work } else { 0.0 };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// When a refused caller should try again if `work` is waiting.
    pub fn retry_after(&self, work: u64) -> Duration {
        self.time_for(work).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests;
