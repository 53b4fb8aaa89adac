//! The part of DeepL's API, version 2, that its official clients use to translate.
//!
//! `formality`, `context`, `split_sentences` and `preserve_formatting` are accepted and ignored: the model has no
//! levels of politeness and translates each sentence alone, and formatting is always kept.

pub mod documents;
pub mod glossaries;
pub mod languages;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::app::App;
use super::dialect::DeeplError;
use super::error::ApiError;
use super::headers::SERVER_TIMING;
use super::models::Models;
use super::params::Params;
use super::request::{Effort, TranslateRequest, check_count, check_languages};
use super::shapes::{DeeplBody, DeeplFailures};
use super::translation::{TranslatedText, translate};
use crate::decode::Steps;
use crate::formats::{Format, Markup};
use crate::text::ReadOptions;

/// DeepL's number for "no limit".
const CHARACTER_LIMIT: u64 = 1_000_000_000_000;

pub fn routes() -> Router<Models> {
    Router::new()
        .route("/v2/translate", post(translate_texts))
        .route("/v2/languages", get(languages::languages).post(languages::languages))
        .route("/v2/usage", get(usage).post(usage))
        .route("/v2/glossary-language-pairs", get(languages::glossary_pairs))
        .route("/v2/glossaries", post(glossaries::create).get(glossaries::list))
        .route("/v2/glossaries/{id}", get(glossaries::get).delete(glossaries::delete))
        .route("/v2/glossaries/{id}/entries", get(glossaries::entries))
        .route("/v2/document", post(documents::upload))
        .route("/v2/document/{id}", post(documents::status).get(documents::status))
        .route("/v2/document/{id}/result", post(documents::result).get(documents::result))
}

/// The number of characters translated since the start.
#[utoipa::path(
    get,
    path = "/v2/usage",
    tag = "DeepL",
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn usage(State(app): State<Arc<App>>) -> Json<Value> {
    let count = app.deepl_usage.characters();
    Json(json!({ "character_count": count, "character_limit": CHARACTER_LIMIT }))
}

/// Translates texts.
#[utoipa::path(
    post,
    path = "/v2/translate",
    tag = "DeepL",
    request_body = DeeplBody,
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn translate_texts(State(models): State<Models>, request: Request) -> Result<Response, DeeplError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let (texts, _) = params.texts("text")?.ok_or_else(|| ApiError::missing("text"))?;
    if texts.is_empty() {
        return Err(ApiError::missing("text").into());
    }
    check_count(&texts, &app.settings)?;
    let (detect, effort) = read_common(&app, &params)?;
    let format = format(&params)?;
    let glossary = glossaries::of_request(&params, &app)?;
    let request = TranslateRequest {
        texts: texts.into(),
        format,
        read: ReadOptions::default(),
        detect,
        glossary,
        effort,
        watch: None,
    };
    let translated = translate(&app, &request, arrived).await?;

    let model_type = params.text("model_type")?;
    let translations: Vec<Value> = translated
        .texts
        .iter()
        .zip(request.texts.iter())
        .map(|(translation, text)| {
            let characters = text.chars().count();
            app.deepl_usage.add(characters);
            let mut answer = json!({
                "detected_source_language": source_of(translation, &app),
                "text": translation.text,
                "billed_characters": characters,
            });
            if let Some(model_type) = model_type {
                answer["model_type_used"] = model_type.trim_start_matches("prefer_").into();
            }
            // An extension: DeepL has no alternatives.
            if request.effort.alternatives > 0 {
                answer["alternatives"] = json!(translation.alternatives);
            }
            answer
        })
        .collect();
    let mut response = Json(json!({ "translations": translations })).into_response();
    if let Some(timing) = translated.stages.header() {
        response.headers_mut().insert(SERVER_TIMING.clone(), timing);
    }
    Ok(response)
}

/// The source language in DeepL's notation.
fn source_of(translation: &TranslatedText, app: &App) -> String {
    let detected = translation.detected.as_ref().map(|detection| detection.language.as_str());
    languages::upper(detected.unwrap_or(&app.model.pair.source))
}

/// Whether the source language is to be detected, and the effort that `model_type` or the extensions set.
fn read_common(app: &App, params: &Params) -> Result<(bool, Effort), ApiError> {
    let source = params.text("source_lang")?.filter(|source| !source.is_empty());
    let detect = check_languages(source, params.required("target_lang")?, &app.model.pair)?;
    let mut effort = Effort::read(params, &app.abilities())?;
    if !params.has("steps") {
        let max_steps = app.model.max_steps.min(app.settings.max_steps);
        effort.steps = match params.text("model_type")? {
            Some("latency_optimized") => Steps::ONE,
            Some("quality_optimized" | "prefer_quality_optimized") => best_steps(app).min(max_steps),
            Some(other) => return Err(ApiError::invalid(format!("model_type {other} is not supported"))),
            None => effort.steps,
        };
    }
    Ok((detect, effort))
}

/// The number of steps with the best BLEU in the model's card; of equal ones the lowest.
fn best_steps(app: &App) -> Steps {
    let scores = app.model.scores.iter();
    let best = scores.reduce(|best, score| if score.bleu > best.bleu { score } else { best });
    best.and_then(|score| Steps::new(score.steps)).unwrap_or(app.model.default_steps)
}

fn format(params: &Params) -> Result<Format, ApiError> {
    let ignored = match params.texts("ignore_tags")? {
        None => Vec::new(),
        // A list, or one string with commas.
        Some((names, _)) => names.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect(),
    };
    match params.text("tag_handling")?.unwrap_or_default() {
        "" => Ok(Format::Text),
        "html" => Ok(Format::Markup(Markup::html().ignoring(ignored))),
        "xml" => Ok(Format::Markup(Markup::xml().ignoring(ignored))),
        other => Err(ApiError::invalid(format!("tag_handling {other} is not supported, send html or xml"))),
    }
}
