//! `GET /openapi.json`, generated from the annotations of the handlers, and `GET /docs`: Swagger UI, whose files are
//! built into the program.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::app::App;
use super::dialect::PathPart;
use super::error::ApiError;
use super::shapes::{ErrorBody, MessageBody};
use super::{deepl, glossaries, libretranslate, mtran, probes, stream};
use crate::Error;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "tutti",
        description = "Translation with a number of decoding steps that each request chooses. The server implements the \
            APIs of LibreTranslate (with extensions), DeepL (version 2) and MTranServer.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        libretranslate::post_translate,
        stream::translate_stream,
        libretranslate::languages::languages,
        libretranslate::languages::detect,
        libretranslate::languages::frontend_settings,
        libretranslate::suggest,
        libretranslate::files::translate_file,
        libretranslate::files::download_file,
        glossaries::create,
        glossaries::list,
        glossaries::get,
        glossaries::delete,
        deepl::translate_texts,
        deepl::usage,
        deepl::languages::languages,
        deepl::languages::glossary_pairs,
        deepl::glossaries::create,
        deepl::glossaries::list,
        deepl::glossaries::get,
        deepl::glossaries::delete,
        deepl::glossaries::entries,
        deepl::documents::upload,
        deepl::documents::status,
        deepl::documents::result,
        mtran::translate_batch,
        mtran::imme,
        mtran::kiss,
        mtran::deeplx,
        mtran::models,
        mtran::version,
        libretranslate::health,
        probes::livez,
        probes::readyz,
        probes::startupz,
        probes::info,
        probes::metrics,
    ),
    components(schemas(ErrorBody, MessageBody)),
    tags(
        (name = "translate", description = "LibreTranslate's API with extensions"),
        (name = "glossaries", description = "Stored glossaries"),
        (name = "DeepL", description = "DeepL's API, version 2"),
        (name = "browser extensions", description = "MTranServer's API"),
        (name = "operations", description = "Probes, metrics and the server's description"),
    )
)]
struct Api;

/// `GET /openapi.json`, and `GET /spec` for LibreTranslate's clients.
pub async fn openapi(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut api = Api::openapi();
    if !app.settings.url_prefix.is_empty() {
        api.servers = Some(vec![utoipa::openapi::Server::new(&app.settings.url_prefix)]);
    }
    let json = api.to_json().map_err(|error| Error::Config(format!("the API's description: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Redirects to the page: the addresses of its files are relative to its folder.
pub async fn index(State(app): State<Arc<App>>) -> Redirect {
    Redirect::permanent(&format!("{}/docs/index.html", app.settings.url_prefix))
}

/// A file of Swagger UI.
pub async fn file(PathPart(name): PathPart) -> Result<Response, ApiError> {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("../openapi.json").validator_url("none")));
    let not_found = || ApiError::NotFound(format!("/docs/{name}"));
    let file = utoipa_swagger_ui::serve(&name, Arc::clone(&CONFIG)).map_err(|_| not_found())?;
    let SwaggerFile { bytes, content_type, gzpipped, .. } = file.ok_or_else(not_found)?;
    let mut response = bytes.into_owned().into_response();
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
