//! Sends spans to a collector by OTLP over HTTP, as JSON. A separate thread sends them in batches. Requests never wait
//! for it: spans that it cannot send in time are dropped. The exporter also reads the standard variables
//! `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES`.

use std::time::{Duration, SystemTime};

use axum::http::Method;
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::parent::TraceParent;
use crate::{Error, Result};

/// Time for a batch of spans to be sent.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the last spans when the server stops. Kubernetes kills the process a few seconds after the drain timeout.
const LAST_SPANS: Duration = Duration::from_secs(3);

pub struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    /// `endpoint` is a URL such as `http://collector:4318`. `ratio` is the share of traces that are sent if the client
    /// does not decide it.
    pub fn open(endpoint: &str, ratio: f64) -> Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(BATCH_TIMEOUT)
            .build()
            .map_err(|error| Error::Config(format!("otlp_endpoint: {endpoint:?}: {error}")))?;
        let resource = Resource::builder()
            .with_service_name("tutti")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("tutti");
        Ok(Self { provider, tracer })
    }

    /// Sends the spans that were not sent yet. Blocks.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }

    /// Starts the span of a request at a time.
    pub fn request(
        &self,
        method: &Method,
        route: &str,
        client: Option<TraceParent>,
        started: SystemTime,
    ) -> RequestSpan {
        let attributes = [
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("http.route", route.to_owned()),
        ];
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_start_time(started)
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &context_of(client));
        RequestSpan { tracer: self.tracer.clone(), context: Context::new().with_span(span) }
    }
}

fn context_of(client: Option<TraceParent>) -> Context {
    let Some(TraceParent { trace, span, flags }) = client else { return Context::new() };
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    Context::new().with_remote_span_context(context)
}

/// The span of a request, the parent of the spans of its stages.
pub struct RequestSpan {
    tracer: SdkTracer,
    context: Context,
}

impl RequestSpan {
    /// The header that names this span.
    pub fn parent(&self) -> TraceParent {
        let span = self.context.span();
        let context = span.span_context();
        TraceParent {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        }
    }

    /// Whether the spans of this trace are sent.
    pub fn is_sampled(&self) -> bool {
        self.context.span().span_context().is_sampled()
    }

    pub fn stage(
        &self,
        name: &'static str,
        started: SystemTime,
        ended: SystemTime,
        attributes: &[(&'static str, i64)],
    ) {
        let attributes = attributes.iter().map(|&(key, value)| KeyValue::new(key, value));
        self.tracer
            .span_builder(name)
            .with_start_time(started)
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &self.context)
            .end_with_timestamp(ended);
    }

    pub fn end(&self, status: u16, ended: SystemTime) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span.set_status(Status::error("the server failed"));
        }
        span.end_with_timestamp(ended);
    }
}
