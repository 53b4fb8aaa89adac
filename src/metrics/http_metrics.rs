//! What is counted for each HTTP request.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use super::Rejected;
use super::families::Families;

/// The status codes of the server's responses; any other is counted as `other`.
pub(super) const CODES: [u16; 15] =
    [200, 204, 304, 400, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504];
pub(super) const OTHER: &str = "other";

/// The metrics of the HTTP server; cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    pub(super) families: Arc<Families>,
    pub(super) rejected: Arc<[IntCounter]>,
    pub(super) routes: Arc<[Box<str>]>,
}

impl HttpMetrics {
    /// Counts a request that was answered. A `route` that was not given to
    /// [`Metrics::http`](super::Metrics::http) counts as `other`.
    pub fn request(&self, route: &str, code: u16, duration: Duration) {
        let route = if self.routes.iter().any(|known| **known == *route) { route } else { OTHER };
        let number = code.to_string();
        let code = if CODES.contains(&code) { number.as_str() } else { OTHER };
        self.families.requests.with_label_values(&[route, code]).inc();
        self.families.request_seconds.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// Counts sentences that were rejected before they reached an engine; the engine counts its own.
    pub fn rejected(&self, reason: Rejected, items: usize) {
        if let Some(counter) = self.rejected.get(reason as usize) {
            counter.inc_by(items as u64);
        }
    }

    /// Sets whether the server is ready, as `/readyz` reports it.
    pub fn set_ready(&self, ready: bool) {
        self.families.ready.set(i64::from(ready));
    }
}
