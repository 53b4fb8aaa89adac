//! Names of headers that more than one file writes.

use axum::http::HeaderName;

pub static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context: who traces a request through several servers finds it in the log.
pub static TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
