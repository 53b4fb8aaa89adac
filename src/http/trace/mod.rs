//! The trace of a request. The header `traceparent` of a client is in the server's log and, with the server's own span,
//! in the answer. If the settings name a collector, it receives a span for the request and for each of its stages.
//! Without the feature `otlp`, there is no collector.

#[cfg(not(feature = "otlp"))]
#[path = "without.rs"]
mod otlp;
#[cfg(feature = "otlp")]
mod otlp;
mod parent;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::http::{HeaderMap, HeaderValue, Method};

use self::otlp::{Exporter, RequestSpan};
use self::parent::TraceParent;
use crate::Result;
use crate::engine::Outcome;
use crate::settings::HttpSettings;

/// Maximum number of sentences of a request that have spans.
pub(super) const MAX_SENTENCES: usize = 16;

/// Routes without spans: monitoring calls them all the time.
const WITHOUT_SPANS: [&str; 7] =
    ["/health", "/livez", "/readyz", "/startupz", "/metrics", "/__heartbeat__", "/__lbheartbeat__"];

tokio::task_local! {
    /// The trace of the request that is being answered.
    static CURRENT: Arc<Trace>;
}

/// The exporter of spans, if the settings name a collector. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Exporter>>);

impl Traces {
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an endpoint that is not a URL, and for any endpoint if the program
    /// was built without the feature `otlp`.
    pub fn open(settings: &HttpSettings) -> Result<Self> {
        let endpoint = settings.otlp_endpoint.as_deref();
        let exporter = endpoint.map(|endpoint| Exporter::open(endpoint, settings.otlp_ratio)).transpose()?;
        Ok(Self(exporter.map(Arc::new)))
    }

    /// Sends the spans that were not sent yet.
    pub(super) async fn shutdown(&self) {
        if let Some(exporter) = self.0.clone() {
            // An error means that the exporter panicked; then these spans are lost.
            let _ = tokio::task::spawn_blocking(move || exporter.shutdown()).await;
        }
    }

    /// The trace of a new request; `None` if the client sends none and there is no collector.
    pub(super) fn begin(&self, method: &Method, route: &str, headers: &HeaderMap) -> Option<Arc<Trace>> {
        let given = TraceParent::of_client(headers);
        let clock = (Instant::now(), SystemTime::now());
        let exporter = self.0.as_ref().filter(|_| !WITHOUT_SPANS.contains(&route));
        let span = exporter.map(|exporter| exporter.request(method, route, given, clock.1));
        let own = match &span {
            Some(span) => span.parent(),
            None => given?.child(),
        };
        Some(Arc::new(Trace { own, clock, span }))
    }
}

/// The trace of one request.
pub(super) struct Trace {
    /// With the span of the server.
    own: TraceParent,
    /// The same time on both clocks.
    clock: (Instant, SystemTime),
    span: Option<RequestSpan>,
}

impl Trace {
    pub fn id(&self) -> String {
        self.own.trace_id()
    }

    /// The header of the answer.
    pub fn header(&self) -> Option<HeaderValue> {
        self.own.header()
    }

    /// Ends the span of the request.
    pub fn end(&self, status: u16) {
        if let Some(span) = &self.span {
            span.end(status, self.at(Instant::now()));
        }
    }

    /// Adds a span for a stage of the request.
    pub fn stage(
        &self,
        name: &'static str,
        started: Instant,
        ended: Instant,
        attributes: &[(&'static str, i64)],
    ) {
        if let Some(span) = &self.span {
            span.stage(name, self.at(started), self.at(ended), attributes);
        }
    }

    /// Adds spans for the outcomes that have a schedule. `first` is the index of the first outcome among all sentences
    /// of the request.
    pub fn sentences(&self, first: usize, outcomes: &[Outcome]) {
        for (index, outcome) in outcomes.iter().enumerate() {
            let Some(schedule) = &outcome.schedule else { continue };
            let sentence = ("tutti.sentence", (first + index) as i64);
            self.stage("queue", schedule.submitted, schedule.picked, &[sentence]);
            self.stage("encode", schedule.picked, schedule.encoded, &[sentence]);
            for (step, &(started, ended)) in schedule.passes.iter().enumerate() {
                self.stage("step", started, ended, &[sentence, ("tutti.step", step as i64 + 1)]);
            }
        }
    }

    /// The system's time at an instant.
    fn at(&self, instant: Instant) -> SystemTime {
        let (start, time) = self.clock;
        match instant.checked_duration_since(start) {
            Some(later) => time + later,
            None => time - start.duration_since(instant),
        }
    }
}

/// The trace of the request that is being answered, if its spans are sent to a collector.
pub(super) fn sampled() -> Option<Arc<Trace>> {
    let current = CURRENT.try_with(Arc::clone).ok()?;
    let sampled = current.span.as_ref().is_some_and(RequestSpan::is_sampled);
    sampled.then_some(current)
}

/// Answers a request with this trace.
pub(super) async fn in_trace<F: Future>(trace: Option<Arc<Trace>>, work: F) -> F::Output {
    match trace {
        Some(trace) => CURRENT.scope(trace, work).await,
        None => work.await,
    }
}

/// Keeps the trace of the request for work that continues after the handler has returned.
pub(super) fn in_current_trace<F: Future>(work: F) -> impl Future<Output = F::Output> {
    in_trace(CURRENT.try_with(Arc::clone).ok(), work)
}
