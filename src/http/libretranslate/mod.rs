//! LibreTranslate's API, with tutti's own parameters and answers (`meta`) as extensions.

mod answer;
pub mod files;
pub mod languages;

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::app::App;
use super::error::ApiError;
use super::glossary_store;
use super::headers::SERVER_TIMING;
use super::models::Models;
use super::mtran;
use super::params::Params;
use super::request::{Abilities, Effort, TranslateRequest, check_count, check_languages};
use super::shapes::{Failures, TranslateAnswer, TranslateBody};
use super::translation::translate;
use crate::formats::{Format, Markup};
use crate::text::ReadOptions;

pub use answer::{Answer, AnswerShape, slot_text};
pub use files::{download_file, translate_file, translate_upload};
pub use languages::{detect, frontend_settings, languages};

/// Parameters that LibreTranslate does not have. The answer to a request with one of them contains `meta`.
const EXTENSIONS: [&str; 9] = [
    "steps",
    "steps_min",
    "length_beam",
    "scores",
    "trace",
    "deadline_ms",
    "model",
    "glossary",
    "join_lines",
];

/// `POST /translate`. MTranServer has the same path with other fields.
#[utoipa::path(
    post,
    path = "/translate",
    tag = "translate",
    request_body(content((TranslateBody = "application/json"), (TranslateBody = "application/x-www-form-urlencoded"), (TranslateBody = "multipart/form-data"))),
    responses((status = 200, description = "The translation; MTranServer's `{\"result\"}` for its fields", body = TranslateAnswer), Failures)
)]
pub async fn post_translate(State(models): State<Models>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    if mtran::is_own(&params) {
        return mtran::translate_one(&app, &params, arrived).await;
    }
    let (request, shape) = read(&app, &params)?;
    drop(params);
    let translated = translate(&app, &request, arrived).await?;
    let header = translated.stages.header();
    let answer = Answer::new(translated, &request, &shape, &app.model.name, &app.model.tokenizer)?;
    let mut response = Json(answer).into_response();
    if let Some(timing) = header {
        response.headers_mut().insert(SERVER_TIMING.clone(), timing);
    }
    Ok(response)
}

/// Reads a request, and the shape of its answer.
///
/// # Errors
/// With LibreTranslate's messages where it has any: 400 for parameters that are missing or invalid and for
/// languages that are not served, 413 for more texts or characters than the limit.
pub fn read(app: &App, params: &Params) -> Result<(TranslateRequest, AnswerShape), ApiError> {
    let abilities: Abilities = app.abilities();
    let (texts, many) = match params.texts("q")? {
        Some((texts, many)) if many && !texts.is_empty() => (texts, many),
        Some((texts, many)) if texts.iter().any(|text| !text.is_empty()) => (texts, many),
        _ => return Err(ApiError::missing("q")),
    };
    let (source, target) = (params.required("source")?, params.required("target")?);
    let detect = check_languages(Some(source), target, abilities.pair)?;
    let format = match params.text("format")?.unwrap_or_default() {
        "" | "text" => Format::Text,
        "html" => Format::Markup(Markup::html()),
        "markdown" => Format::Markdown,
        other => return Err(ApiError::invalid(format!("{other} format is not supported"))),
    };
    check_count(&texts, abilities.limits)?;
    let effort = Effort::read(params, &abilities)?;
    let glossary = glossary_store::of_request(params, &app.glossaries)?;
    let extended = EXTENSIONS.iter().any(|key| params.has(key));
    let read = ReadOptions { join_lines: params.flag("join_lines")? };
    let texts = texts.into();
    let request = TranslateRequest { texts, format, read, detect, glossary, effort, watch: None };
    Ok((request, AnswerShape { many, extended }))
}

/// `POST /suggest`: LibreTranslate's answer if suggestions are disabled.
#[utoipa::path(post, path = "/suggest", tag = "translate", responses(Failures))]
pub async fn suggest() -> ApiError {
    ApiError::Disabled("Suggestions are disabled on this server.")
}

/// `GET /health`, with exactly LibreTranslate's body.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}
