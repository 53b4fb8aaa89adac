//! `POST /translate_file` translates a document and returns the address of the translation, which
//! `GET /download_file/{name}` serves.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::formats::{EXTENSIONS, Format};
use crate::glossary::Glossary;
use crate::http::app::App;
use crate::http::dialect::PathPart;
use crate::http::error::ApiError;
use crate::http::files::StoredFile;
use crate::http::glossary_store;
use crate::http::models::Models;
use crate::http::params::Upload;
use crate::http::request::{Effort, TranslateRequest, check_languages};
use crate::http::shapes::{Failures, FileAnswer, FileBody};
use crate::http::translation::translate;
use crate::text::ReadOptions;

/// `POST /translate_file`: translates a file. The answer is the address of the translation.
#[utoipa::path(
    post,
    path = "/translate_file",
    tag = "translate",
    request_body(content = FileBody, content_type = "multipart/form-data"),
    responses((status = 200, description = "OK", body = FileAnswer), Failures)
)]
pub async fn translate_file(State(models): State<Models>, request: Request) -> Result<Json<Value>, ApiError> {
    let arrived = Instant::now();
    let base = base_address(request.headers(), &models.first().settings.url_prefix);
    let (app, params) = models.read(request, arrived).await?;
    let _permit = app.admit()?;
    let file = params.file("file").ok_or_else(|| ApiError::missing("file"))?;
    let (source, target) = (params.required("source")?, params.required("target")?);
    let detect = check_languages(Some(source), target, &app.model.pair)?;
    let effort = Effort::read(&params, &app.abilities())?;
    let glossary = glossary_store::of_request(&params, &app.glossaries)?;
    let stored = translate_upload(&app, file, detect, effort, glossary, arrived).await?;
    let id = app.files.put(stored);
    Ok(Json(json!({ "translatedFileUrl": format!("{base}/download_file/{id}") })))
}

/// Translates a file.
///
/// # Errors
/// 400 for an unsupported format or an invalid file, and the errors of [`translate`].
pub async fn translate_upload(
    app: &App,
    file: &Upload,
    detect: bool,
    effort: Effort,
    glossary: Option<Arc<Glossary>>,
    arrived: Instant,
) -> Result<StoredFile, ApiError> {
    let format = Format::of_file(&file.name).ok_or_else(|| {
        let known = EXTENSIONS.join(", ");
        ApiError::invalid(format!("file format not supported, send one of {known}"))
    })?;
    if file.bytes.is_empty() {
        return Err(ApiError::invalid("empty file"));
    }
    let text = std::str::from_utf8(&file.bytes)
        .map_err(|error| ApiError::invalid(format!("the file is not valid UTF-8: {error}")))?;
    let media_type = format.media_type();
    let characters = text.chars().count();
    let request = TranslateRequest {
        texts: [text.to_owned()].into(),
        format,
        read: ReadOptions::default(),
        detect,
        glossary,
        effort,
        watch: None,
    };
    let mut translated = translate(app, &request, arrived).await?;
    let text = translated.texts.first_mut().map(|text| std::mem::take(&mut text.text)).unwrap_or_default();
    Ok(StoredFile { name: safe_name(&file.name), media_type, bytes: text.into(), characters })
}

/// `GET /download_file/{name}`: a translated file.
#[utoipa::path(
    get,
    path = "/download_file/{name}",
    tag = "translate",
    params(("name" = String, Path)),
    responses((status = 200, description = "The file", content_type = "application/octet-stream", body = [u8]), Failures)
)]
pub async fn download_file(
    State(app): State<Arc<App>>,
    PathPart(id): PathPart,
) -> Result<Response, ApiError> {
    let file = app.files.get(&id).ok_or(ApiError::Unknown { kind: "file", id })?;
    Ok(file.into_response())
}

impl IntoResponse for StoredFile {
    fn into_response(self) -> Response {
        let disposition = format!("attachment; filename=\"{}\"", self.name);
        let mut response = self.bytes.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        if let Ok(value) = HeaderValue::try_from(disposition) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        response
    }
}

/// The file name without folders and without characters that have a meaning in headers or shells.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    last.chars().map(safe).take(100).collect()
}

/// The address at which the client reached the server, also through a proxy that sends `X-Forwarded-*` headers.
fn base_address(headers: &HeaderMap, prefix: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or("localhost");
    format!("{scheme}://{host}{prefix}")
}
