//! Probes, metrics and the description of the server. None of them waits for the model or its queue.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::app::App;
use super::error::ApiError;
use super::lifecycle::Phase;
use super::models::Models;
use super::shapes::Failures;
use crate::Error;
use crate::decode::Steps;

/// A model thread without a heartbeat for this time is stuck. Even a full batch on one core takes only a fraction
/// of it.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Liveness: the model thread has a recent heartbeat.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn livez(State(models): State<Models>) -> Result<Json<Value>, ApiError> {
    for app in models.all() {
        if !app.engine.is_alive() {
            return Err(Error::EngineDead("the model thread has ended".into()).into());
        }
        let age = app.engine.heartbeat();
        if age > STUCK_AFTER {
            let reason = format!("the model thread has sent no heartbeat for {} s", age.as_secs());
            return Err(Error::EngineDead(reason).into());
        }
    }
    Ok(Json(json!({ "status": "ok" })))
}

/// Readiness: warmed up, not draining, engine alive.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn readyz(State(models): State<Models>) -> Result<Json<Value>, ApiError> {
    match models.first().phase() {
        Phase::Starting => Err(Error::NotReady.into()),
        Phase::Draining => Err(Error::Draining.into()),
        Phase::Ready => livez(State(models)).await,
    }
}

/// Whether the warm-up is done; it stays true while the server drains.
#[utoipa::path(
    get,
    path = "/startupz",
    tag = "operations",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn startupz(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    match app.phase() {
        Phase::Starting => Err(Error::NotReady.into()),
        Phase::Ready | Phase::Draining => Ok(Json(json!({ "status": "ok" }))),
    }
}

/// All metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "OK", content_type = "text/plain", body = String), Failures)
)]
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

/// The models, limits and quality of the server.
#[utoipa::path(
    get,
    path = "/info",
    tag = "operations",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn info(State(models): State<Models>) -> Json<Value> {
    let app = models.first();
    let settings = &app.settings;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models": models.all().iter().map(|app| describe(app)).collect::<Vec<_>>(),
        "limits": {
            "max_body_bytes": settings.max_body_bytes,
            "max_texts": settings.max_texts,
            "max_text_chars": settings.max_text_chars,
            "default_length_beam": app.default_length_beam(),
            "max_length_beam": settings.max_length_beam,
            "request_timeout_ms": settings.request_timeout.as_millis() as u64,
        },
    }))
}

fn describe(app: &App) -> Value {
    let (model, settings, limits) = (&app.model, &app.settings, app.engine.limits());
    let latencies = app.engine.latencies();
    let latency = |(steps, time): &(Steps, Duration)| json!({ "steps": steps, "milliseconds": time.as_secs_f64() * 1000.0 });
    json!({
        "name": model.name,
        "source": model.pair.source,
        "target": model.pair.target,
        "checksum": model.checksum,
        "dtype": model.dtype,
        "shortlist": model.shortlist,
        "lm": model.lm,
        "device": model.device,
        "cpu_fallback_reason": model.cpu_fallback_reason,
        "default_steps": model.default_steps.min(settings.max_steps),
        "max_steps": model.max_steps.min(settings.max_steps),
        "max_source_tokens": limits.source_tokens,
        "max_target_tokens": limits.target_tokens,
        "scores": model.scores,
        "latency": latencies.measured().iter().map(latency).collect::<Vec<_>>(),
    })
}
