//! What LibreTranslate's clients ask before they translate: languages, detection, the page's settings.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Value, json};

use crate::formats::EXTENSIONS;
use crate::http::app::App;
use crate::http::detect::Detection;
use crate::http::error::ApiError;
use crate::http::languages::{Pair, name};
use crate::http::models::Models;
use crate::http::request::check_chars;
use crate::http::shapes::{DetectBody, Failures};
use crate::{Error, Result};

#[derive(Serialize)]
pub struct Language<'a> {
    code: &'a str,
    name: &'a str,
    targets: Vec<&'a str>,
}

/// `GET /languages`: every language with what it can be translated into.
#[utoipa::path(
    get,
    path = "/languages",
    tag = "translate",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn languages(State(models): State<Models>) -> Json<Value> {
    let pairs = models.pairs();
    let mut codes: Vec<&str> = Vec::new();
    for code in pairs.iter().flat_map(Pair::codes) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let language = |code: &&'_ str| {
        let targets = pairs.iter().filter(|pair| pair.source == **code).map(|pair| pair.target.as_str());
        json!(Language { code, name: name(code), targets: targets.collect() })
    };
    Json(codes.iter().map(language).collect())
}

/// `POST /detect`: the languages that `q` may be in, most probable first. An array is one text.
#[utoipa::path(
    post,
    path = "/detect",
    tag = "translate",
    request_body = DetectBody,
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn detect(
    State(models): State<Models>,
    request: Request,
) -> Result<Json<Vec<Detection>>, ApiError> {
    let (app, params) = models.read(request, Instant::now()).await?;
    let texts = params.texts("q")?.map(|(texts, _)| texts).unwrap_or_default();
    if texts.iter().all(String::is_empty) {
        return Err(ApiError::missing("q"));
    }
    check_chars(texts.iter().map(String::as_str), app.settings.max_text_chars)?;
    let detector = app.detector.clone();
    let detections = tokio::task::spawn_blocking(move || detector.detect(&texts.join("\n")));
    Ok(Json(detections.await.map_err(|error| Error::Tokenizer(format!("the detector's thread: {error}")))?))
}

/// `GET /frontend/settings`: what LibreTranslate's page and apps show.
#[utoipa::path(
    get,
    path = "/frontend/settings",
    tag = "translate",
    responses((status = 200, description = "OK", body = Value), Failures)
)]
pub async fn frontend_settings(State(app): State<Arc<App>>) -> Json<Value> {
    let pair = &app.model.pair;
    Json(json!({
        "apiKeys": app.keys.is_some(),
        "charLimit": app.settings.max_text_chars,
        "filesTranslation": true,
        "frontendTimeout": 500,
        "keyRequired": app.keys.is_some(),
        "language": {
            "source": { "code": "auto", "name": "Auto Detect" },
            "target": { "code": pair.target, "name": name(&pair.target) },
        },
        "suggestions": false,
        "supportedFilesFormat": EXTENSIONS,
    }))
}
