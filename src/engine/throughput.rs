//! Estimates how long waiting work will take, from the work that recent passes did in a second. Only passes that left
//! sentences waiting count: other passes are not full, so their throughput is too low.
//!
//! Older passes fade with the time that later ones take, if that is 16 to 125 ms. Full passes take longest: if each
//! later pass counted alike, it would take seconds until the estimate falls when refusals slow the passes down.

use std::time::Duration;

/// Limits of `retry_after`.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A pass fades older ones by the part of these seconds that it takes.
const FADING: f64 = 0.5;
/// Limits of this part. After a stall, even short passes correct the estimate within some dozens of them, and one
/// stalled pass does not replace the estimate.
const LEAST_FADED: f64 = 1.0 / 32.0;
const MOST_FADED: f64 = 1.0 / 4.0;

/// Sums of the work (tokens times passes) and of the seconds of recent passes. Their quotient is the throughput; an
/// average of quotients would let a small pass count as much as a full one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThroughputEstimate {
    work: f64,
    seconds: f64,
}

impl ThroughputEstimate {
    /// Records a pass that did `work` in `elapsed`, including encoding. A pass that was not `full` counts only if it
    /// is faster than the estimate: then even a small pass shows that the estimate is wrong. Otherwise a stall would
    /// keep the estimate low for as long as it causes refusals.
    pub fn record(&mut self, work: u64, elapsed: Duration, full: bool) {
        if work == 0 || !(full || self.is_beaten_by(work, elapsed)) {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let kept = 1.0 - (seconds / FADING).clamp(LEAST_FADED, MOST_FADED);
        self.work = kept * self.work + work as f64;
        self.seconds = kept * self.seconds + seconds;
    }

    fn is_beaten_by(&self, work: u64, elapsed: Duration) -> bool {
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
