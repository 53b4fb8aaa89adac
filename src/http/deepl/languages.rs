//! Languages in DeepL's spelling.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::Failure;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::languages::name;
use crate::http::shapes::DeeplFailures;

/// `EN`, `PT-BR`
pub fn upper(code: &str) -> String {
    code.replace('_', "-").to_uppercase()
}

/// `EN`, `PT`: DeepL's source languages have no region.
fn without_region(code: &str) -> String {
    upper(code).split('-').next().unwrap_or_default().to_owned()
}

/// `GET /v2/languages`; `type=target` may come in a form.
#[utoipa::path(
    get,
    path = "/v2/languages",
    tag = "DeepL",
    params(("type" = Option<String>, Query, description = "`source` or `target`")),
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn languages(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Failure> {
    let params = app.read(request, Instant::now()).await?;
    let pair = &app.model.pair;
    match params.text("type")?.unwrap_or("source") {
        "source" => {
            let source = &pair.source;
            Ok(Json(json!([{ "language": without_region(source), "name": name(source) }])))
        }
        "target" => Ok(Json(targets(&pair.target))),
        other => {
            Err(ApiError::invalid(format!("type {other} is not supported, send source or target")).into())
        }
    }
}

/// DeepL's clients ask for English and Portuguese with a region.
fn targets(target: &str) -> Value {
    let regions: &[(&str, &str)] = match target {
        "en" => &[("EN-GB", "English (British)"), ("EN-US", "English (American)")],
        "pt" => &[("PT-BR", "Portuguese (Brazilian)"), ("PT-PT", "Portuguese (European)")],
        _ => &[],
    };
    let language =
        |code: &str, name: &str| json!({ "language": code, "name": name, "supports_formality": false });
    if regions.is_empty() {
        return json!([language(&upper(target), name(target))]);
    }
    regions.iter().map(|(code, name)| language(code, name)).collect()
}

/// `GET /v2/glossary-language-pairs`
#[utoipa::path(
    get,
    path = "/v2/glossary-language-pairs",
    tag = "DeepL",
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn glossary_pairs(State(app): State<Arc<App>>) -> Json<Value> {
    let lower = |code| without_region(code).to_lowercase();
    let (source, target) = (lower(&app.model.pair.source), lower(&app.model.pair.target));
    Json(json!({ "supported_languages": [{ "source_lang": source, "target_lang": target }] }))
}
