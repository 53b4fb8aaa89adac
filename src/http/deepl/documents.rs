//! `/v2/document`: upload, status, result. The document is translated during the upload, so the first status request
//! already finds it done.

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{glossaries, read_common};
use crate::http::dialect::{DeeplError, PathPart};
use crate::http::error::ApiError;
use crate::http::files::StoredFile;
use crate::http::libretranslate::translate_upload;
use crate::http::models::Models;
use crate::http::shapes::{DeeplDocumentBody, DeeplFailures, DocumentKeyBody};

/// Translates a document.
#[utoipa::path(
    post,
    path = "/v2/document",
    tag = "DeepL",
    request_body(content = DeeplDocumentBody, content_type = "multipart/form-data"),
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn upload(State(models): State<Models>, request: Request) -> Result<Json<Value>, DeeplError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let file = params.file("file").ok_or_else(|| ApiError::missing("file"))?;
    let (detect, effort) = read_common(&app, &params)?;
    let glossary = glossaries::of_request(&params, &app)?;
    let stored = translate_upload(&app, file, detect, effort, glossary, arrived).await?;
    app.deepl_usage.add(stored.characters);
    let (id, key) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    app.files.put_as(name_of(&id, &key), stored);
    Ok(Json(json!({ "document_id": id, "document_key": key })))
}

/// The name of a stored document. It contains the key, so that a wrong key is answered like an unknown document.
fn name_of(id: &str, key: &str) -> String {
    format!("document {id} {key}")
}

async fn find(models: &Models, id: String, request: Request) -> Result<StoredFile, ApiError> {
    let (app, params) = models.read(request, Instant::now()).await?;
    let key = params.required("document_key")?;
    app.files.get(&name_of(&id, key)).ok_or(ApiError::Unknown { kind: "document", id })
}

/// The status of a document.
#[utoipa::path(
    post,
    path = "/v2/document/{id}",
    tag = "DeepL",
    request_body = DocumentKeyBody,
    params(("id" = String, Path)),
    responses((status = 200, description = "OK", body = Value), DeeplFailures)
)]
pub async fn status(
    State(models): State<Models>,
    PathPart(id): PathPart,
    request: Request,
) -> Result<Json<Value>, DeeplError> {
    let file = find(&models, id.clone(), request).await?;
    Ok(Json(json!({ "document_id": id, "status": "done", "billed_characters": file.characters })))
}

/// The translated document.
#[utoipa::path(
    post,
    path = "/v2/document/{id}/result",
    tag = "DeepL",
    request_body = DocumentKeyBody,
    params(("id" = String, Path)),
    responses((status = 200, description = "The file", content_type = "application/octet-stream", body = [u8]), DeeplFailures)
)]
pub async fn result(
    State(models): State<Models>,
    PathPart(id): PathPart,
    request: Request,
) -> Result<Response, DeeplError> {
    Ok(find(&models, id, request).await?.into_response())
}
