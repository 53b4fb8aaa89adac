//! The routes, and the layers around all of them: request id, CORS, metrics, JSON for requests without a handler.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, http::HeaderMap};
use tower::{Layer, ServiceBuilder};
use tower_http::cors::{AllowOrigin, Any as Anyone, CorsLayer};
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use super::app::App;
use super::dialect::{catch_panics, refuse};
use super::error::ApiError;
use super::headers::{API_TOKEN, REQUEST_ID, SERVER_TIMING, TRACE_PARENT};
use super::keys::Client;
use super::lifecycle::Phase;
use super::models::Models;
use super::trace::in_trace;
use super::{deepl, docs, glossaries, guard, libretranslate, mtran, page, probes, stream, unread};
use crate::settings::HttpSettings;

/// The label of requests without a route.
const OTHER: &str = "other";

pub fn router(models: &Models) -> Router {
    // The router must not hold an `App`: the old engine ends only when its last `App` is dropped.
    let settings = models.first().settings.clone();
    let prefix = settings.url_prefix.clone();
    let cors = CorsLayer::new()
        .allow_origin(origins(&settings))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, API_TOKEN.clone(), REQUEST_ID.clone()])
        .expose_headers([
            SERVER_TIMING.clone(),
            REQUEST_ID.clone(),
            TRACE_PARENT.clone(),
            header::RETRY_AFTER,
        ]);
    let layers = ServiceBuilder::new()
        .layer(from_fn(unread::finish))
        .layer(SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID.clone()))
        .layer(cors)
        .layer(from_fn_with_state(models.clone(), observe))
        .layer(from_fn_with_state(Arc::<str>::from(prefix.as_str()), page::answer_browsers))
        .layer(from_fn(catch_panics))
        // Before the guard, which searches bodies for keys: otherwise the limit is axum's 2 MB.
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .layer(from_fn_with_state(models.clone(), guard::guard));
    let routes = own_routes()
        .merge(page::routes(&prefix))
        .merge(deepl::routes())
        .merge(mtran_routes())
        .merge(operations_routes());
    let routes = if prefix.is_empty() {
        routes
    } else {
        // Monitoring reaches the server without the proxy that adds the prefix.
        Router::new().nest(&prefix, routes).merge(operations_routes())
    };
    let routes = routes
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(layers)
        .with_state(models.clone());
    // Around the router, because it must run before routing: `/translate/` means `/translate`.
    Router::new().fallback_service(NormalizePathLayer::trim_trailing_slash().layer(routes))
}

fn origins(settings: &HttpSettings) -> AllowOrigin {
    match &settings.cors_origins {
        None => Anyone.into(),
        Some(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    }
}

fn own_routes() -> Router<Models> {
    Router::new()
        .route("/translate", post(libretranslate::post_translate))
        .route("/translate/stream", post(stream::translate_stream))
        // Some clients use POST, for example libretranslatepy.
        .route("/languages", get(libretranslate::languages).post(libretranslate::languages))
        .route("/detect", post(libretranslate::detect))
        .route("/frontend/settings", get(libretranslate::frontend_settings))
        .route("/suggest", post(libretranslate::suggest))
        .route("/translate_file", post(libretranslate::translate_file))
        .route("/download_file/{name}", get(libretranslate::download_file))
        .route("/spec", get(docs::openapi))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::index))
        .route("/docs/{*file}", get(docs::file))
        .route("/glossaries", post(glossaries::create).get(glossaries::list))
        .route("/glossaries/{id}", get(glossaries::get).delete(glossaries::delete))
}

fn mtran_routes() -> Router<Models> {
    Router::new()
        .route("/translate/batch", post(mtran::translate_batch))
        .route("/imme", post(mtran::imme))
        .route("/kiss", post(mtran::kiss))
        .route("/deeplx", post(mtran::deeplx))
        .route("/models", get(mtran::models))
        .route("/version", get(mtran::version))
        .route("/__heartbeat__", get(mtran::heartbeat))
        .route("/__lbheartbeat__", get(mtran::heartbeat))
}

pub(super) fn operations_routes() -> Router<Models> {
    Router::new()
        .route("/health", get(libretranslate::health))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/startupz", get(probes::startupz))
        .route("/info", get(probes::info))
        .route("/metrics", get(probes::metrics))
}

pub(super) async fn not_found(uri: Uri) -> Response {
    refuse(&uri, ApiError::NotFound(uri.path().to_owned()))
}

pub(super) async fn method_not_allowed(uri: Uri, method: Method) -> Response {
    refuse(&uri, ApiError::MethodNotAllowed(method.to_string()))
}

/// Counts and logs every answer, and ends connections once the server drains.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let id = text(request.headers(), &REQUEST_ID);
    let route = route.as_ref().map_or(OTHER, MatchedPath::as_str);
    let route = route.strip_prefix(app.settings.url_prefix.as_str()).unwrap_or(route);
    // The route of the page is empty if there is a prefix.
    let route = if route.is_empty() { "/" } else { route };
    let trace = app.traces.begin(&method, route, request.headers());
    let mut response = in_trace(trace.clone(), next.run(request)).await;
    let status = response.status().as_u16();
    let seconds = arrived.elapsed();
    app.http_metrics.request(route, status, seconds);
    let seconds = seconds.as_secs_f64();
    let trace_id = trace.as_ref().map(|trace| trace.id());
    if let Some(trace) = trace {
        trace.end(status);
        if let Some(value) = trace.header() {
            response.headers_mut().insert(TRACE_PARENT.clone(), value);
        }
    }
    if app.settings.access_log {
        let client = response.extensions().get::<Arc<Client>>().map(|client| client.name());
        tracing::info!(target: "access", %method, route, status, seconds, id, trace_id, client, "answered");
    } else {
        tracing::debug!(%method, route, status, seconds, id, trace_id, "answered");
    }
    if app.phase() == Phase::Draining {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
