//! Which path goes where, and what every answer passes on its way out: request id, CORS, counting,
//! JSON for whatever nobody else answered.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::HeaderMap};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any as Anyone, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use super::app::{App, Phase};
use super::error::ApiError;
use super::{probes, translate};

/// Every path of [`router`], for the series of the metrics.
pub const ROUTES: [&str; 8] =
    ["/translate", "/languages", "/health", "/livez", "/readyz", "/startupz", "/info", "/metrics"];

/// The label of requests for anything else.
const OTHER: &str = "other";

pub static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub fn router(app: Arc<App>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Anyone)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, REQUEST_ID.clone()])
        .expose_headers([SERVER_TIMING.clone(), REQUEST_ID.clone(), header::RETRY_AFTER]);
    let on_the_way = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID.clone()))
        .layer(cors)
        .layer(from_fn_with_state(app.clone(), observe))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(app.settings.max_body_bytes));
    Router::new()
        .route("/translate", post(translate::translate))
        .route("/languages", get(probes::languages))
        .route("/health", get(probes::health))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/startupz", get(probes::startupz))
        .route("/info", get(probes::info))
        .route("/metrics", get(probes::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(on_the_way)
        .with_state(app)
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::NotFound(uri.path().to_owned())
}

async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::MethodNotAllowed(method.to_string())
}

/// The default hook has logged where; the connection lives on.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::Panic.into_response()
}

/// Counts and logs every answer, and ends connections once the server drains.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let id = id(request.headers());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let seconds = arrived.elapsed();
    let route = route.as_ref().map_or(OTHER, MatchedPath::as_str);
    app.http_metrics.request(route, status, seconds);
    tracing::debug!(%method, route, status, seconds = seconds.as_secs_f64(), id, "answered");
    if app.phase() == Phase::Draining {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn id(headers: &HeaderMap) -> Option<String> {
    headers.get(&REQUEST_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned())
}
