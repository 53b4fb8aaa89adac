//! The API of MTranServer, which browser extensions use: Immersive Translate (`/imme`), Kiss Translator (`/kiss`),
//! and its own `/translate`, distinguished from LibreTranslate's by its fields.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::app::{App, Model};
use super::error::ApiError;
use super::headers::SERVER_TIMING;
use super::models::Models;
use super::params::Params;
use super::request::{Effort, TranslateRequest, check_count, check_languages};
use super::shapes::{BatchBody, DeeplxBody, Failures, ImmeBody, KissBody};
use super::timings::Stages;
use super::translation::{TranslatedText, translate};
use crate::formats::{Format, Markup};
use crate::text::ReadOptions;

/// Whether a request to `/translate` has the fields of this API.
pub fn is_own(params: &Params) -> bool {
    !params.has("q")
        && !params.has("source")
        && (params.has("from") || params.has("to"))
        && params.has("text")
}

struct Answers {
    texts: Vec<TranslatedText>,
    stages: Stages,
    /// Whether `alternatives` were requested, which clients of this API do not do by default.
    with_alternatives: bool,
}

impl Answers {
    /// The translation of the only text.
    fn text(&self) -> &str {
        self.texts.first().map_or("", |text| text.text.as_str())
    }

    /// The source language of the only text.
    fn source<'a>(&'a self, named: &'a str) -> &'a str {
        self.texts.first().map_or(named, |text| source_of(text, named))
    }

    /// The fields of an answer, with the alternatives of each text if they were requested.
    fn fields(&self, mut fields: Value) -> Value {
        if self.with_alternatives {
            let all: Vec<&Vec<String>> = self.texts.iter().map(|text| &text.alternatives).collect();
            fields["alternatives"] = json!(all);
        }
        fields
    }

    /// As [`fields`](Self::fields), for a single text.
    fn single(&self, mut fields: Value) -> Value {
        if self.with_alternatives {
            fields["alternatives"] = json!(self.texts.first().map(|text| &text.alternatives));
        }
        fields
    }
}

/// The detected language of a text; if none was to be detected, the one that the request named.
fn source_of<'a>(text: &'a TranslatedText, named: &'a str) -> &'a str {
    text.detected.as_ref().map_or(named, |detection| detection.language.as_str())
}

async fn run(
    app: &App,
    params: &Params,
    texts: Vec<String>,
    languages: (Option<&str>, &str),
    arrived: Instant,
) -> Result<Answers, ApiError> {
    let abilities = app.abilities();
    let detect =
        check_languages(languages.0.filter(|source| !source.is_empty()), languages.1, abilities.pair)?;
    check_count(&texts, abilities.limits)?;
    let html = params.flag("html")?;
    let format = if html { Format::Markup(Markup::html()) } else { Format::Text };
    let effort = Effort::read(params, &abilities)?;
    let request = TranslateRequest {
        texts: texts.into(),
        format,
        read: ReadOptions::default(),
        detect,
        glossary: None,
        effort,
        watch: None,
    };
    let translated = translate(app, &request, arrived).await?;
    let with_alternatives = request.effort.alternatives > 0;
    Ok(Answers { texts: translated.texts, stages: translated.stages, with_alternatives })
}

fn answer(body: &Value, stages: &Stages) -> Response {
    let mut response = Json(body).into_response();
    if let Some(timing) = stages.header() {
        response.headers_mut().insert(SERVER_TIMING.clone(), timing);
    }
    response
}

fn list(params: &Params, key: &str) -> Result<Vec<String>, ApiError> {
    let (texts, _) = params.texts(key)?.ok_or_else(|| ApiError::missing(key))?;
    if texts.is_empty() { Err(ApiError::missing(key)) } else { Ok(texts) }
}

/// `POST /translate {"from", "to", "text", "html"}`
pub async fn translate_one(app: &App, params: &Params, arrived: Instant) -> Result<Response, ApiError> {
    let text = params.text("text")?.unwrap_or_default().to_owned();
    let languages = (Some(params.required("from")?), params.required("to")?);
    let done = run(app, params, vec![text], languages, arrived).await?;
    Ok(answer(&done.single(json!({ "result": done.text() })), &done.stages))
}

/// `POST /translate/batch {"from", "to", "texts", "html"}`
#[utoipa::path(
    post,
    path = "/translate/batch",
    tag = "browser extensions",
    request_body = BatchBody,
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn translate_batch(State(models): State<Models>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let texts = list(&params, "texts")?;
    let languages = (Some(params.required("from")?), params.required("to")?);
    let done = run(&app, &params, texts, languages, arrived).await?;
    let results: Vec<&str> = done.texts.iter().map(|text| text.text.as_str()).collect();
    Ok(answer(&done.fields(json!({ "results": results })), &done.stages))
}

/// `POST /imme {"source_lang", "target_lang", "text_list"}`: Immersive Translate's custom API.
#[utoipa::path(
    post,
    path = "/imme",
    tag = "browser extensions",
    request_body = ImmeBody,
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn imme(State(models): State<Models>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let texts = list(&params, "text_list")?;
    let source = params.text("source_lang")?;
    let languages = (source, params.required("target_lang")?);
    let done = run(&app, &params, texts, languages, arrived).await?;
    let named = source.unwrap_or(&app.model.pair.source);
    let translation =
        |text: &TranslatedText| json!({ "detected_source_lang": source_of(text, named), "text": text.text });
    let translations: Vec<Value> = done.texts.iter().map(translation).collect();
    Ok(answer(&done.fields(json!({ "translations": translations })), &done.stages))
}

/// `POST /kiss {"from", "to", "text"}`, or `texts` for several: Kiss Translator's custom API. Older versions read
/// `from` and `to` from the answer, newer ones `src`.
#[utoipa::path(
    post,
    path = "/kiss",
    tag = "browser extensions",
    request_body = KissBody,
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn kiss(State(models): State<Models>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let (from, to) = (params.required("from")?, params.required("to")?);
    if params.has("texts") {
        let done = run(&app, &params, list(&params, "texts")?, (Some(from), to), arrived).await?;
        let translation = |text: &TranslatedText| json!({ "text": text.text, "src": source_of(text, from) });
        let translations: Vec<Value> = done.texts.iter().map(translation).collect();
        return Ok(answer(&done.fields(json!({ "translations": translations })), &done.stages));
    }
    let text = params.required("text")?.to_owned();
    let done = run(&app, &params, vec![text], (Some(from), to), arrived).await?;
    let source = done.source(from);
    let body = json!({ "text": done.text(), "src": source, "from": source, "to": to });
    Ok(answer(&done.single(body), &done.stages))
}

/// `POST /deeplx {"source_lang", "target_lang", "text"}`: the API of the unofficial DeepLX.
#[utoipa::path(
    post,
    path = "/deeplx",
    tag = "browser extensions",
    request_body = DeeplxBody,
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn deeplx(State(models): State<Models>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let text = params.required("text")?.to_owned();
    let target = params.required("target_lang")?;
    let done = run(&app, &params, vec![text], (params.text("source_lang")?, target), arrived).await?;
    let body = json!({
        "alternatives": [],
        "code": 200,
        "data": done.text(),
        "id": 0,
        "method": "Free",
        "source_lang": done.source(&app.model.pair.source).to_uppercase(),
        "target_lang": target.to_uppercase(),
    });
    Ok(answer(&done.single(body), &done.stages))
}

/// `GET /models`: the served models with their languages.
#[utoipa::path(
    get,
    path = "/models",
    tag = "browser extensions",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn models(State(models): State<Models>) -> Json<Value> {
    let all = models.all();
    let model = |app: &Arc<App>| {
        let Model { name, pair, .. } = &app.model;
        json!({ "name": name, "from": pair.source, "to": pair.target })
    };
    Json(json!({ "models": all.iter().map(model).collect::<Vec<_>>() }))
}

/// `GET /version`
#[utoipa::path(
    get,
    path = "/version",
    tag = "browser extensions",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /__heartbeat__` and `GET /__lbheartbeat__`: always 200.
pub async fn heartbeat() -> StatusCode {
    StatusCode::OK
}
