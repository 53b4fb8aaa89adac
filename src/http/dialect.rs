//! Errors in the format of each API, including those outside of handlers: `{"error"}` for clients of
//! LibreTranslate and MTranServer, `{"message"}` for those of DeepL.

use std::panic::AssertUnwindSafe;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde_json::json;

use super::error::ApiError;

/// An error in DeepL's format; status 456 if a quota is used up.
#[derive(Debug)]
pub struct DeeplError(pub ApiError);

impl<E: Into<ApiError>> From<E> for DeeplError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for DeeplError {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            // DeepL's status for a wrong key.
            ApiError::KeyMissing => StatusCode::FORBIDDEN,
            ApiError::Quota { .. } | ApiError::KeyQuota { .. } => {
                StatusCode::from_u16(456).unwrap_or(StatusCode::FORBIDDEN)
            }
            error => error.status(),
        };
        self.0.response(status, &json!({ "message": self.0.message() }))
    }
}

/// An error response outside of a handler. A prefix may precede DeepL's `/v2`.
pub fn refuse(uri: &Uri, error: ApiError) -> Response {
    if uri.path().split('/').any(|part| part == "v2") {
        DeeplError(error).into_response()
    } else {
        error.into_response()
    }
}

/// Answers a request whose handler panicked. The panic hook logs the panic.
pub async fn catch_panics(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_| refuse(&uri, ApiError::Panic))
}

/// The variable part of a path. The error of axum's extractor for invalid UTF-8 would be plain text.
pub struct PathPart(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(_) => {
                let reason = "the path is not valid percent-encoded UTF-8";
                Err(refuse(&parts.uri, ApiError::invalid(reason)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
