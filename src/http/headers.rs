//! Names of headers that several files need.

use axum::http::HeaderName;

pub static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// MTranServer's header for a key, an alternative to `Authorization`.
pub static API_TOKEN: HeaderName = HeaderName::from_static("x-api-token");
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context; it is logged, so that a request can be traced through several servers.
pub static TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
