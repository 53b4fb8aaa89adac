//! All Prometheus metrics. No other module contains the name of a metric; `families.rs` lists them.
//!
//! [`Metrics`] owns its registry, so that tests and several servers in one process do not share series.
//! [`HttpMetrics`] counts requests, [`EngineMetrics`] counts the work of one model; both are cheap to clone. The
//! number of labels is bounded: routes come from the router's table and models from the settings, never from a
//! client. Every labelled series starts at 0, so that its rate is right from the first event.
//!
//! The module does not depend on the engine or on HTTP types.

mod engine_metrics;
mod families;
mod http_metrics;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, Registry, TextEncoder};

pub use engine_metrics::{Counted, EngineMetrics, NetworkCall};
pub use http_metrics::HttpMetrics;

use families::{Families, register};
use http_metrics::{CODES, OTHER};

/// Why a sentence was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    QueueFull,
    TooLong,
    Deadline,
    Cancelled,
    Draining,
    Memory,
    /// The network returned an error.
    Failed,
}

impl Rejected {
    const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::TooLong,
        Self::Deadline,
        Self::Cancelled,
        Self::Draining,
        Self::Memory,
        Self::Failed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLong => "too_long",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Draining => "draining",
            Self::Memory => "memory",
            Self::Failed => "failed",
        }
    }
}

/// All metrics, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    rejected: Arc<[IntCounter]>,
    engines: Mutex<Vec<EngineMetrics>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates a registry with all families.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Arc::new(Families::register(&registry));
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        families.ready.set(0);
        let rejected = Rejected::ALL.map(|reason| families.rejected.with_label_values(&[reason.label()]));
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        Self { registry, families, rejected: rejected.into(), engines: Mutex::default() }
    }

    /// The metrics of the HTTP server. `routes` are the patterns of the router's paths; requests for other paths are
    /// counted as `other`.
    pub fn http(&self, routes: &[&str]) -> HttpMetrics {
        for route in routes.iter().copied().chain([OTHER]) {
            for code in CODES.iter().map(u16::to_string).chain([OTHER.to_owned()]) {
                self.families.requests.with_label_values(&[route, &code]);
            }
            self.families.request_seconds.with_label_values(&[route]);
        }
        let routes = routes.iter().map(|&route| route.into()).collect();
        HttpMetrics { families: self.families.clone(), rejected: self.rejected.clone(), routes }
    }

    /// The metrics of a model. The same name gives the same series.
    pub fn engine(&self, model: &str) -> EngineMetrics {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = engines.iter().find(|known| *known.model == *model) {
            return known.clone();
        }
        let engine = EngineMetrics::new(&self.families, &self.rejected, model);
        engines.push(engine.clone());
        engine
    }

    /// All series in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        for engine in self.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            engine.refresh();
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }
}
