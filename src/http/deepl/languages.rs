//! Languages in DeepL's spelling.

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use crate::http::dialect::DeeplError;
use crate::http::error::ApiError;
use crate::http::languages::{Pair, name};
use crate::http::models::Models;
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
pub async fn languages(State(models): State<Models>, request: Request) -> Result<Json<Value>, DeeplError> {
    let (_, params) = models.read(request, Instant::now()).await?;
    let pairs = models.pairs();
    let unique = |codes: Vec<&String>| {
        let mut codes = codes;
        codes.sort();
        codes.dedup();
        codes.into_iter().cloned().collect::<Vec<_>>()
    };
    match params.text("type")?.unwrap_or("source") {
        "source" => {
            let source =
                |source: &String| json!({ "language": without_region(source), "name": name(source) });
            Ok(Json(unique(pairs.iter().map(|pair| &pair.source).collect()).iter().map(source).collect()))
        }
        "target" => {
            let codes = unique(pairs.iter().map(|pair| &pair.target).collect());
            Ok(Json(codes.iter().flat_map(|code| targets(code)).collect()))
        }
        other => {
            Err(ApiError::invalid(format!("type {other} is not supported, send source or target")).into())
        }
    }
}

/// DeepL's clients ask for English and Portuguese with a region.
fn targets(target: &str) -> Vec<Value> {
    let regions: &[(&str, &str)] = match target {
        "en" => &[("EN-GB", "English (British)"), ("EN-US", "English (American)")],
        "pt" => &[("PT-BR", "Portuguese (Brazilian)"), ("PT-PT", "Portuguese (European)")],
        _ => &[],
    };
    let language =
        |code: &str, name: &str| json!({ "language": code, "name": name, "supports_formality": false });
    if regions.is_empty() {
        return vec![language(&upper(target), name(target))];
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
pub async fn glossary_pairs(State(models): State<Models>) -> Json<Value> {
    let lower = |code: &str| without_region(code).to_lowercase();
    let pair =
        |pair: &Pair| json!({ "source_lang": lower(&pair.source), "target_lang": lower(&pair.target) });
    Json(json!({ "supported_languages": models.pairs().iter().map(pair).collect::<Vec<_>>() }))
}
