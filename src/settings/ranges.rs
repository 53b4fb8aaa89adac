//! The range of each number among the settings. The largest values are not recommendations: above them a sum
//! overflows, a thread pool or a semaphore panics, or a deadline is not a valid date.

use super::{MAX_THREADS, Raw};
use crate::{Error, Result, keys};

const DAY_MS: u64 = 86_400_000;

/// # Errors
/// [`Error::Config`] with the key, its range and its value.
pub fn check(raw: &Raw) -> Result<()> {
    let ranges = [
        ("threads", raw.threads as u64, 0, MAX_THREADS as u64),
        ("max_body_bytes", raw.max_body_bytes as u64, 1, 1 << 30),
        ("max_texts", raw.max_texts as u64, 1, 100_000),
        ("max_text_chars", raw.max_text_chars as u64, 1, 100_000_000),
        ("max_concurrent_requests", raw.max_concurrent_requests as u64, 1, 1_000_000),
        ("max_connections", raw.max_connections as u64, 0, 1_000_000),
        ("max_steps", u64::from(raw.max_steps), 1, 255),
        ("max_length_beam", raw.max_length_beam as u64, 1, 64),
        ("default_length_beam", raw.default_length_beam as u64, 0, raw.max_length_beam as u64),
        ("request_timeout_ms", raw.request_timeout_ms, 1, DAY_MS),
        ("header_timeout_ms", raw.header_timeout_ms, 1, DAY_MS),
        ("body_timeout_ms", raw.body_timeout_ms, 1, DAY_MS),
        ("idle_timeout_ms", raw.idle_timeout_ms, 1, DAY_MS),
        ("shutdown_delay_ms", raw.shutdown_delay_ms, 0, DAY_MS),
        ("drain_timeout_ms", raw.drain_timeout_ms, 0, DAY_MS),
        ("max_queue_items", raw.max_queue_items as u64, 1, 10_000_000),
        ("max_queue_tokens", raw.max_queue_tokens as u64, 1, 1_000_000_000),
        ("max_batch_tokens", raw.max_batch_tokens as u64, 0, 1 << 24),
        ("max_batch_rows", raw.max_batch_rows as u64, 0, 1 << 16),
        ("max_delay_us", raw.max_delay_us, 0, 10_000_000),
        ("lookahead", raw.lookahead as u64, 0, 1_000_000),
        ("max_overtakes_per_step", u64::from(raw.max_overtakes_per_step), 0, 10_000),
        ("degrade_above_ms", raw.degrade_above_ms, 0, DAY_MS),
        ("degrade_below_ms", raw.degrade_below_ms, 0, DAY_MS),
        ("cache_bytes", raw.cache_bytes, 0, 1 << 40),
    ];
    let mut ranges = ranges.into_iter();
    ranges
        .try_for_each(|(key, value, min, max)| keys::in_range(key, value, min, max))
        .and_then(|()| keys::in_range("otlp_ratio", raw.otlp_ratio, 0.0, 1.0))
        .map_err(Error::Config)
}
