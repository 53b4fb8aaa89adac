//! `/glossaries`: terms that are stored once and named by their id.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::app::App;
use super::dialect::PathPart;
use super::error::ApiError;
use super::glossary_store::{Stored, of_map};
use super::models::Models;
use super::shapes::{Failures, GlossaryBody};

fn description(id: &str, stored: &Stored) -> Value {
    json!({
        "id": id,
        "name": stored.name,
        "source": stored.source,
        "target": stored.target,
        "terms": stored.glossary.terms().len(),
    })
}

/// `POST /glossaries`: `{"name", "terms": {"term": "translation"}}`.
#[utoipa::path(
    post,
    path = "/glossaries",
    tag = "glossaries",
    request_body = GlossaryBody,
    responses((status = 201, description = "OK", body = Value), Failures)
)]
pub async fn create(
    State(models): State<Models>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (app, params) = models.read(request, Instant::now()).await?;
    let name = params.required("name")?.to_owned();
    let glossary = match params.get("terms") {
        Some(Value::Object(map)) => of_map(map)?,
        None => return Err(ApiError::missing("terms")),
        Some(_) => return Err(ApiError::invalid("terms parameter is not a map of terms")),
    };
    let (source, target) = (app.model.pair.source.clone(), app.model.pair.target.clone());
    let stored = Stored { name, created: SystemTime::now(), source, target, glossary };
    let id = app.glossaries.put(stored.clone())?;
    Ok((StatusCode::CREATED, Json(description(&id, &stored))))
}

/// `GET /glossaries`
#[utoipa::path(
    get,
    path = "/glossaries",
    tag = "glossaries",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let all = app.glossaries.all();
    Json(all.iter().map(|(id, stored)| description(id, stored)).collect())
}

/// `GET /glossaries/{id}`: with its terms.
#[utoipa::path(
    get,
    path = "/glossaries/{id}",
    tag = "glossaries",
    params(("id" = String, Path)),
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn get(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Result<Json<Value>, ApiError> {
    let stored = app.glossaries.get(&id)?;
    let mut description = description(&id, &stored);
    let terms = stored.glossary.terms().iter().map(|(term, translation)| (term.clone(), json!(translation)));
    description["terms"] = Value::Object(terms.collect());
    Ok(Json(description))
}

/// `DELETE /glossaries/{id}`
#[utoipa::path(
    delete,
    path = "/glossaries/{id}",
    tag = "glossaries",
    params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), Failures)
)]
pub async fn delete(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Result<StatusCode, ApiError> {
    app.glossaries.remove(&id)?;
    Ok(StatusCode::NO_CONTENT)
}
