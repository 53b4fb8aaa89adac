//! The routes of the admin listener: probes, metrics and reloading of models. The listener has its own
//! connections, so that it answers even if the public one has reached its limit.

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::post;
use serde_json::{Value, json};
use tower::ServiceBuilder;

use super::dialect::{PathPart, catch_panics};
use super::error::ApiError;
use super::models::Models;
use super::router::{method_not_allowed, not_found, observe, operations_routes};
use super::unread;

pub fn admin_router(models: &Models) -> Router {
    // The router must not hold an `App`: the old engine ends only when its last `App` is dropped.
    let settings = models.first().settings.clone();
    let layers = ServiceBuilder::new()
        .layer(from_fn(unread::finish))
        .layer(from_fn_with_state(models.clone(), observe))
        .layer(from_fn(catch_panics))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes));
    operations_routes()
        .route("/admin/models/{name}/reload", post(reload))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(layers)
        .with_state(models.clone())
}

/// Reloads a model from its folder. If that fails, the old one is kept.
async fn reload(State(models): State<Models>, PathPart(name): PathPart) -> Result<Json<Value>, ApiError> {
    if !models.all().iter().any(|app| app.model.name == name) {
        return Err(ApiError::Unknown { kind: "model", id: name });
    }
    if let Err(error) = models.reload(&name).await {
        tracing::error!(%error, name, "the model was not reloaded; the old one is kept");
        return Err(ApiError::NotLoaded { name, reason: error.to_string() });
    }
    let checksum =
        models.all().iter().find(|app| app.model.name == name).map(|app| app.model.checksum.clone());
    tracing::info!(name, checksum, "the model was reloaded");
    Ok(Json(json!({ "name": name, "checksum": checksum })))
}
