//! Refuses requests without a valid API key before any handler runs, so that no route can forget the check. Only
//! the routes of a fixed list need no key.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::timeout_at;

use super::app::App;
use super::dialect::refuse;
use super::error::ApiError;
use super::headers::API_TOKEN;
use super::keys::{Client, Denied};
use super::params::Params;

/// Routes without a key: probes and metrics, what a page needs before its user has a key, and documentation. Also
/// translated files: LibreTranslate's clients fetch them without a key, and nobody can guess their addresses.
const OPEN: [&str; 17] = [
    "/",
    "/page/{file}",
    "/health",
    "/livez",
    "/readyz",
    "/startupz",
    "/metrics",
    "/info",
    "/languages",
    "/frontend/settings",
    "/download_file/{name}",
    "/spec",
    "/openapi.json",
    "/docs",
    "/docs/{*file}",
    "/__heartbeat__",
    "/__lbheartbeat__",
];

/// The names of the key parameter of LibreTranslate, DeepL and MTranServer.
const KEY_PARAMETERS: [&str; 4] = ["api_key", "auth_key", "token", "api_token"];

/// The schemes of `Authorization` that a key follows: MTranServer's, DeepL's, and `Token`, which some clients send.
const KEY_SCHEMES: [&str; 3] = ["Bearer", "DeepL-Auth-Key", "Token"];

/// Schemes for a proxy in front of this server. A word of its own is a key unless it is one of these names.
const PROXY_SCHEMES: [&str; 4] = ["Basic", "Digest", "Negotiate", "NTLM"];

tokio::task_local! {
    /// The client whose request is being answered.
    static CLIENT: Arc<Client>;
}

/// Charges characters to the quota of the request's client, if it has one.
pub(super) fn charge(characters: usize) -> Result<(), ApiError> {
    CLIENT.try_with(|client| client.charge(characters)).unwrap_or(Ok(())).map_err(ApiError::from)
}

/// Charges work that continues after the handler has returned to the request's client.
pub(super) fn for_client<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let client = CLIENT.try_with(Arc::clone).ok();
    async move {
        match client {
            Some(client) => CLIENT.scope(client, work).await,
            None => work.await,
        }
    }
}

pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(keys) = &app.keys else { return next.run(request).await };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // A path without a route is 404 with and without a key.
    let Some(path) = path else { return next.run(request).await };
    let path = path.strip_prefix(app.settings.url_prefix.as_str()).unwrap_or(&path);
    // The route of the page is empty if there is a prefix.
    let path = if path.is_empty() { "/" } else { path };
    if OPEN.contains(&path) {
        return next.run(request).await;
    }
    let uri = request.uri().clone();
    let (request, key) = match key(&app, request).await {
        Ok(found) => found,
        Err(error) => return refuse(&uri, error),
    };
    match keys.admit(key.as_deref()) {
        Ok(client) => {
            let mut response = CLIENT.scope(client.clone(), next.run(request)).await;
            response.extensions_mut().insert(client);
            response
        }
        Err(denied) => refuse(&uri, denied.into()),
    }
}

/// The key of a request, from its headers, its query or its body.
async fn key(app: &App, request: Request) -> Result<(Request, Option<String>), ApiError> {
    if let Some(key) = key_in_head(&request) {
        return Ok((request, Some(key)));
    }
    let limit = app.settings.body_timeout;
    let until = Instant::now() + limit;
    let (parts, body) = request.into_parts();
    let max_body_bytes = app.settings.max_body_bytes;
    let bytes = timeout_at(until.into(), to_bytes(body, max_body_bytes)).await;
    let bytes = bytes.map_err(|_| ApiError::SlowBody { limit })?;
    // If the body cannot be read, it is most likely too large.
    let bytes = bytes.map_err(|_| ApiError::BodyLimit { limit: max_body_bytes })?;
    let copy = Request::from_parts(parts.clone(), Body::from(bytes.clone()));
    let key = match Params::read(copy, max_body_bytes).await {
        Ok(params) => {
            let value = |name: &&str| params.text(name).ok().flatten().and_then(filled);
            KEY_PARAMETERS.iter().find_map(value).map(str::to_owned)
        }
        Err(_) => None,
    };
    Ok((Request::from_parts(parts, Body::from(bytes)), key))
}

/// An empty key or a credential for somebody else hides no key in another place.
fn key_in_head(request: &Request) -> Option<String> {
    let headers = request.headers();
    let authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let key = authorizations.filter_map(|value| value.to_str().ok()).find_map(key_of);
    let mut tokens = headers.get_all(&API_TOKEN).iter().filter_map(|value| value.to_str().ok());
    if let Some(key) = key.or_else(|| tokens.find_map(filled)) {
        return Some(key.to_owned());
    }
    let query: Query<Vec<(String, String)>> = Query::try_from_uri(request.uri()).ok()?;
    let mut keys = query.0.iter().filter(|(name, _)| KEY_PARAMETERS.contains(&name.as_str()));
    keys.find_map(|(_, key)| filled(key)).map(str::to_owned)
}

/// The key in an `Authorization` header.
fn key_of(authorization: &str) -> Option<&str> {
    let authorization = authorization.trim();
    let (scheme, key) = authorization.split_once(char::is_whitespace).unwrap_or((authorization, ""));
    let among = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(scheme));
    match filled(key) {
        Some(key) => among(&KEY_SCHEMES).then_some(key),
        // Older clients of MTranServer send the bare token.
        None if among(&KEY_SCHEMES) || among(&PROXY_SCHEMES) => None,
        None => filled(authorization),
    }
}

/// The text without the spaces around it, if there is any.
fn filled(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::KeyMissing,
            Denied::Invalid => Self::KeyInvalid,
            Denied::TooFast { retry_after } => Self::KeyTooFast { retry_after },
            Denied::Quota { retry_after } => Self::KeyQuota { retry_after },
        }
    }
}
