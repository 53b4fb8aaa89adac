//! `/v2/glossaries`: the stored glossaries in DeepL's format.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::glossary::Glossary;
use crate::http::app::App;
use crate::http::dialect::{DeeplError, PathPart};
use crate::http::error::ApiError;
use crate::http::glossary_store::Stored;
use crate::http::models::Models;
use crate::http::params::Params;
use crate::http::shapes::{DeeplFailures, DeeplGlossaryBody};

/// The stored glossary with the id `glossary_id`.
///
/// # Errors
/// 400 without `source_lang`, which DeepL requires with it, 404 for an unknown id.
pub fn of_request(params: &Params, app: &App) -> Result<Option<Arc<Glossary>>, ApiError> {
    let Some(id) = params.text("glossary_id")?.filter(|id| !id.is_empty()) else {
        return crate::http::glossary_store::of_request(params, &app.glossaries);
    };
    if !params.has("source_lang") {
        return Err(ApiError::invalid("glossary_id needs the source_lang parameter"));
    }
    Ok(Some(app.glossaries.get(id)?.glossary))
}

fn description(id: &str, stored: &Stored) -> Value {
    json!({
        "glossary_id": id,
        "name": stored.name,
        "ready": true,
        "source_lang": stored.source.to_lowercase(),
        "target_lang": stored.target.to_lowercase(),
        "creation_time": humantime::format_rfc3339_micros(stored.created).to_string(),
        "entry_count": stored.glossary.terms().len(),
    })
}

/// Stores a glossary.
#[utoipa::path(
    post,
    path = "/v2/glossaries",
    tag = "DeepL",
    request_body = DeeplGlossaryBody,
    responses((status = 201, description = "OK", body = Value), DeeplFailures)
)]
pub async fn create(
    State(models): State<Models>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), DeeplError> {
    let (app, params) = models.read(request, Instant::now()).await?;
    let name = params.required("name")?.to_owned();
    let (source, target) = (params.required("source_lang")?, params.required("target_lang")?);
    app.model.pair.check(source, target).map_err(ApiError::from)?;
    let separator = match params.required("entries_format")? {
        "tsv" => b'\t',
        "csv" => b',',
        other => {
            let reason = format!("entries_format {other} is not supported, send tsv or csv");
            return Err(ApiError::invalid(reason).into());
        }
    };
    let terms = read_entries(params.required("entries")?, separator)?;
    let glossary = Arc::new(Glossary::new(terms).map_err(ApiError::from)?);
    let (source, target) = (source.to_owned(), target.to_owned());
    let stored = Stored { name, created: std::time::SystemTime::now(), source, target, glossary };
    let id = app.glossaries.put(stored.clone())?;
    Ok((StatusCode::CREATED, Json(description(&id, &stored))))
}

/// Parses rows of a term and its translation. CSV may have two more columns for the languages.
fn read_entries(entries: &str, separator: u8) -> Result<Vec<(String, String)>, ApiError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(separator)
        .quoting(separator == b',')
        .flexible(true)
        .from_reader(entries.as_bytes());
    let mut terms = Vec::new();
    for (number, row) in (1..).zip(reader.records()) {
        let row = row.map_err(|error| ApiError::invalid(format!("entries: {error}")))?;
        match (row.get(0), row.get(1)) {
            (Some(term), Some(translation)) => terms.push((term.to_owned(), translation.to_owned())),
            _ => return Err(ApiError::invalid(format!("entries: row {number} has no translation"))),
        }
    }
    if terms.is_empty() { Err(ApiError::invalid("entries: there are none")) } else { Ok(terms) }
}

/// All glossaries, without their entries.
#[utoipa::path(
    get,
    path = "/v2/glossaries",
    tag = "DeepL",
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let all = app.glossaries.all();
    Json(json!({ "glossaries": all.iter().map(|(id, stored)| description(id, stored)).collect::<Vec<_>>() }))
}

/// A glossary without its entries.
#[utoipa::path(
    get,
    path = "/v2/glossaries/{id}",
    tag = "DeepL",
    params(("id" = String, Path)),
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn get(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Result<Json<Value>, DeeplError> {
    Ok(Json(description(&id, &app.glossaries.get(&id)?)))
}

/// Deletes a glossary.
#[utoipa::path(
    delete,
    path = "/v2/glossaries/{id}",
    tag = "DeepL",
    params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), DeeplFailures)
)]
pub async fn delete(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Result<StatusCode, DeeplError> {
    app.glossaries.remove(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The entries as tab-separated values, DeepL's only format for them.
#[utoipa::path(
    get,
    path = "/v2/glossaries/{id}/entries",
    tag = "DeepL",
    params(("id" = String, Path)),
    responses((status = 200, description = "OK", content_type = "text/tab-separated-values", body = String), DeeplFailures)
)]
pub async fn entries(State(app): State<Arc<App>>, PathPart(id): PathPart) -> Result<Response, DeeplError> {
    let stored = app.glossaries.get(&id)?;
    let rows = stored.glossary.terms().iter().map(|(term, translation)| format!("{term}\t{translation}"));
    let rows = rows.collect::<Vec<_>>().join("\n");
    Ok(([(header::CONTENT_TYPE, "text/tab-separated-values; charset=utf-8")], rows).into_response())
}
