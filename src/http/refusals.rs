//! While requests are refused, the HTTP threads let them come together.
//!
//! Under overload every core computes passes. A request that arrives interrupts one of them, with two switches of
//! threads and cold caches for a refusal that is short itself. So a thread without work pauses before it waits for the
//! next request; those that arrive meanwhile are answered one after the other. A thread with work never pauses, and the
//! pause is short beside the time that accepted requests wait in the queue.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(2);

/// How long threads pause after a refusal.
const RECENT: Duration = Duration::from_millis(50);

/// Of the whole process, because its servers share the threads.
static REFUSALS: LazyLock<Refusals> = LazyLock::new(|| Refusals::new(Instant::now()));

struct Refusals {
    started: Instant,
    /// Microseconds from `started` to the last refusal, and 1; 0 if there was none.
    last: AtomicU64,
}

impl Refusals {
    fn new(started: Instant) -> Self {
        Self { started, last: AtomicU64::new(0) }
    }

    fn note(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.started).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX - 1);
        self.last.store(micros + 1, Ordering::Relaxed);
    }

    /// How long a thread without work should pause.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        let since = now.saturating_duration_since(self.started).saturating_sub(Duration::from_micros(last));
        (since < RECENT).then_some(PAUSE)
    }
}

/// Notes that a request was refused for lack of room or time.
pub(super) fn refused() {
    REFUSALS.note(Instant::now());
}

/// Pauses this thread if requests are being refused. For `on_thread_park` of the runtime that serves.
pub fn pause_while_refusing() {
    if let Some(pause) = REFUSALS.pause(Instant::now()) {
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests;
