//! The listener for operators: probes, metrics and what is served, apart from the load. Its connections are
//! its own, so that it answers while the public listener has none left.

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
use super::router::{for_machines, method_not_allowed, not_found, observe};
use super::unread;

pub fn admin_router(models: &Models) -> Router {
    // No app is held here: a model that is loaded again must be able to go.
    let settings = models.first().settings.clone();
    let on_the_way = ServiceBuilder::new()
        .layer(from_fn(unread::finish))
        .layer(from_fn_with_state(models.clone(), observe))
        .layer(from_fn(catch_panics))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes));
    for_machines()
        .route("/admin/models/{name}/reload", post(reload))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(on_the_way)
        .with_state(models.clone())
}

/// Loads a model again from its folder and puts it in the place of the old one; where that fails, the old one stays.
async fn reload(State(models): State<Models>, PathPart(name): PathPart) -> Result<Json<Value>, ApiError> {
    if !models.all().iter().any(|app| app.model.name == name) {
        return Err(ApiError::Unknown { kind: "model", id: name });
    }
    if let Err(error) = models.reload(&name).await {
        tracing::error!(%error, name, "the model stays as it was");
        return Err(ApiError::NotLoaded { name, reason: error.to_string() });
    }
    let checksum =
        models.all().iter().find(|app| app.model.name == name).map(|app| app.model.checksum.clone());
    tracing::info!(name, checksum, "the model was loaded again");
    Ok(Json(json!({ "name": name, "checksum": checksum })))
}
