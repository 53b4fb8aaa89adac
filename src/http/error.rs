//! Maps errors to a status and JSON; no other module does. LibreTranslate's format is the default; other dialects
//! wrap [`ApiError`].

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::Error;

/// What a handler can fail with: the crate's errors, and those that only HTTP has.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Domain(#[from] Error),
    /// Too many texts or characters, in LibreTranslate's words, which its clients search for.
    #[error("Invalid request: request ({size}) exceeds text limit ({limit})")]
    TextLimit { size: usize, limit: usize },
    #[error("Invalid request: the body exceeds the limit of {limit} bytes")]
    BodyLimit { limit: usize },
    #[error("the body of the request did not arrive within {} ms", limit.as_millis())]
    SlowBody { limit: Duration },
    #[error("Slowdown: {limit} requests are in progress, try again in 1 s")]
    TooManyRequests { limit: usize },
    #[error("Invalid request: content type {0:?} is not supported, send application/json")]
    MediaType(String),
    #[error("Invalid request: content encoding {0:?} is not supported, send gzip, deflate or none")]
    ContentEncoding(String),
    #[error("there is nothing at {0}")]
    NotFound(String),
    /// There is no stored object of this kind and id.
    #[error("{kind} {id} does not exist")]
    Unknown { kind: &'static str, id: String },
    #[error("method {0} is not allowed here")]
    MethodNotAllowed(String),
    /// The server's settings do not allow this.
    #[error("{0}")]
    Disabled(&'static str),
    /// A store is full.
    #[error("{what} ({size}) exceed the limit ({limit}); delete a glossary first")]
    Quota { what: &'static str, size: usize, limit: usize },
    /// Only operators get this error, so it may contain the reason.
    #[error("model {name} was not reloaded: {reason}")]
    NotLoaded { name: String, reason: String },
    #[error("an API key is needed: send it as api_key, or as the header Authorization: Bearer KEY")]
    KeyMissing,
    /// LibreTranslate's words.
    #[error("Invalid API key")]
    KeyInvalid,
    #[error("Slowdown: too many requests with this API key, try again in {} s", retry_after.as_secs().max(1))]
    KeyTooFast { retry_after: Duration },
    #[error("Slowdown: the characters of this API key are used up, try again in {} s", retry_after.as_secs().max(1))]
    KeyQuota { retry_after: Duration },
    #[error("internal error")]
    Panic,
}

impl ApiError {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Domain(Error::InvalidRequest(message.into()))
    }

    pub fn missing(parameter: &str) -> Self {
        Self::invalid(format!("missing {parameter} parameter"))
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Domain(error) => status_of(error),
            Self::TextLimit { .. } | Self::BodyLimit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::MediaType(_) | Self::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotFound(_) | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Disabled(_) | Self::Quota { .. } | Self::KeyInvalid => StatusCode::FORBIDDEN,
            Self::NotLoaded { .. } => StatusCode::CONFLICT,
            Self::KeyMissing => StatusCode::UNAUTHORIZED,
            Self::KeyTooFast { .. } | Self::KeyQuota { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A short stable name, for clients that branch on it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Domain(error) => code_of(error),
            Self::TextLimit { .. } | Self::BodyLimit { .. } => "too_large",
            Self::SlowBody { .. } => "request_timeout",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::MediaType(_) => "media_type",
            Self::ContentEncoding(_) => "content_encoding",
            Self::NotFound(_) | Self::Unknown { .. } => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Disabled(_) => "disabled",
            Self::Quota { .. } => "quota",
            Self::NotLoaded { .. } => "not_loaded",
            Self::KeyMissing => "key_missing",
            Self::KeyInvalid => "key_invalid",
            Self::KeyTooFast { .. } => "key_rate",
            Self::KeyQuota { .. } => "key_quota",
            Self::Panic => "internal",
        }
    }

    /// The text for the client. Internal causes, with paths and tensor shapes, are only logged.
    pub fn message(&self) -> String {
        match self {
            Self::Domain(error @ Error::DeviceMemory { .. }) => {
                tracing::error!(%error, "a request failed");
                "not enough memory for this sentence at the moment; try again later".to_owned()
            }
            Self::Domain(error @ Error::EngineDead(_)) => {
                tracing::error!(%error, "a request failed");
                "the model has stopped and this server will exit; try another server".to_owned()
            }
            error if error.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(%error, "a request failed");
                "internal error".to_owned()
            }
            Self::Domain(error) => message_of(error),
            error => error.to_string(),
        }
    }

    /// A response with `body` and the headers of this error.
    pub fn response(&self, status: StatusCode, body: &serde_json::Value) -> Response {
        let mut response = (status, Json(body)).into_response();
        if let Some(wait) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait));
        }
        if matches!(self, Self::KeyMissing) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// How long a client should wait before it tries again: for 429 and 503.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Domain(Error::QueueFull { retry_after } | Error::DeadlineUnreachable { retry_after }) => {
                Some(*retry_after)
            }
            Self::KeyTooFast { retry_after } | Self::KeyQuota { retry_after } => Some(*retry_after),
            // By then another replica answers, or this one is ready or has room again.
            Self::Domain(
                Error::Draining | Error::NotReady | Error::EngineDead(_) | Error::DeviceMemory { .. },
            )
            | Self::TooManyRequests { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.response(self.status(), &json!({ "error": self.message(), "code": self.code() }))
    }
}

/// LibreTranslate's clients search for the text before the colon.
fn message_of(error: &Error) -> String {
    match error {
        Error::InvalidRequest(_) | Error::TooLarge { .. } => format!("Invalid request: {error}"),
        Error::QueueFull { .. } | Error::DeadlineUnreachable { .. } => format!("Slowdown: {error}"),
        error => error.to_string(),
    }
}

fn code_of(error: &Error) -> &'static str {
    match error {
        Error::InvalidRequest(_) => "invalid_request",
        Error::UnsupportedLanguage(_) => "unsupported_language",
        Error::TooLarge { .. } => "too_large",
        Error::QueueFull { .. } => "queue_full",
        Error::Draining => "draining",
        Error::NotReady => "not_ready",
        Error::DeadlineUnreachable { .. } => "deadline_unreachable",
        Error::DeadlineExceeded(_) => "deadline_exceeded",
        Error::EngineDead(_) => "engine_dead",
        Error::Io { .. } => "io",
        Error::Bundle { .. } => "bundle",
        Error::Data { .. } => "data",
        Error::Config(_) => "config",
        Error::Tokenizer(_) => "tokenizer",
        Error::Model(_) => "model",
        Error::Device(_) => "device",
        Error::DeviceMemory { .. } => "device_memory",
        Error::Tensor(_) => "tensor",
    }
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::InvalidRequest(_) | Error::UnsupportedLanguage(_) => StatusCode::BAD_REQUEST,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::QueueFull { .. } | Error::DeadlineUnreachable { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Draining | Error::NotReady | Error::EngineDead(_) | Error::DeviceMemory { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::DeadlineExceeded(_) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `Retry-After` has no fractions, so the seconds are rounded up.
fn whole_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 3600) as u64)
}
