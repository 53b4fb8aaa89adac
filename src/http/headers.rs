//! Names of headers that more than one file writes.

use axum::http::HeaderName;

pub static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
