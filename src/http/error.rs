//! Every answer that is no success, as JSON with the right status. The one place where an error
//! meets HTTP; nothing else in this crate may write an error body.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::Error;

/// What a handler can fail with: the crate's errors, and those that only HTTP has.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Domain(#[from] Error),
    /// LibreTranslate's words, which its clients look for; texts or characters.
    #[error("Invalid request: request ({size}) exceeds text limit ({limit})")]
    TextLimit { size: usize, limit: usize },
    #[error("Invalid request: the body exceeds the limit of {limit} bytes")]
    BodyLimit { limit: usize },
    #[error("the request did not arrive in time")]
    SlowBody,
    #[error("Invalid request: content type {0:?} is not understood, send application/json")]
    MediaType(String),
    #[error("there is nothing at {0}")]
    NotFound(String),
    #[error("{0} is not allowed here")]
    MethodNotAllowed(String),
    #[error("internal error")]
    Panic,
}

impl ApiError {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Domain(Error::InvalidRequest(message.into()))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Domain(error) => {
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::TextLimit { .. } | Self::BodyLimit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Domain(error) => error.code(),
            Self::TextLimit { .. } | Self::BodyLimit { .. } => "too_large",
            Self::SlowBody => "request_timeout",
            Self::MediaType(_) => "media_type",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Panic => "internal",
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    code: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        // What broke inside is for the log: paths and tensor shapes are nobody's business outside.
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "a request failed");
            "internal error".to_owned()
        } else if let ApiError::Domain(Error::DeviceMemory { .. }) = self {
            tracing::error!(error = %self, "a request failed");
            "there is no memory for this sentence at present; try again later".to_owned()
        } else {
            self.to_string()
        };
        let mut response = (status, Json(Body { error: &message, code: self.code() })).into_response();
        if let Some(wait) = retry_after(&self) {
            response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait));
        }
        response
    }
}

/// How long a client should wait where waiting helps: 429 and 503.
fn retry_after(error: &ApiError) -> Option<Duration> {
    match error {
        ApiError::Domain(Error::QueueFull { retry_after }) => Some(*retry_after),
        // Another replica takes over, or this one is about to be ready or has room again.
        ApiError::Domain(
            Error::Draining | Error::NotReady | Error::EngineDead(_) | Error::DeviceMemory { .. },
        ) => Some(Duration::from_secs(1)),
        _ => None,
    }
}

/// `Retry-After` has no fractions; rounded up, at least one.
fn whole_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 3600) as u64)
}
