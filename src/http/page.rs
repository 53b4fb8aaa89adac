//! The page at `/`: its files are built into the program. It loads nothing from other hosts, which its content
//! security policy enforces.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::dialect::PathPart;
use super::error::ApiError;

/// Allows scripts, styles, images and requests of this server only, and no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/// The place in the HTML for `<base>` if the page is not at the root of its host.
const HEAD: &str = "<head>\n";

struct File {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
    etag: HeaderValue,
}

/// The files of the page; the first one is the HTML.
static FILES: LazyLock<[File; 4]> = LazyLock::new(|| {
    [
        File::new("", "text/html; charset=utf-8", include_str!("page/index.html")),
        File::new("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
        File::new("script.js", "text/javascript; charset=utf-8", include_str!("page/script.js")),
        File::new("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ]
});

impl File {
    fn new(name: &'static str, media_type: &'static str, content: &'static str) -> Self {
        Self { name, media_type, content, etag: etag(content) }
    }

    /// The file, or 304 if the browser has it.
    fn answer(&self, requested: &HeaderMap) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.media_type)),
            (header::ETAG, self.etag.clone()),
            // The browser keeps the file, and checks each time whether it has changed.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if has(requested, &header::IF_NONE_MATCH, &self.etag) {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, self.content).into_response()
        }
    }
}

fn etag(content: &str) -> HeaderValue {
    let digest: String = Sha256::digest(content).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether a list of tags in a header contains `value`, strong or weak.
fn has(headers: &HeaderMap, name: &HeaderName, value: &HeaderValue) -> bool {
    let values = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == value.as_bytes()
    })
}

/// The routes `/` and `/page/{file}`. `prefix` is the path under which clients reach the server, without a slash
/// at its end; empty for the root.
pub fn routes<S: Clone + Send + Sync + 'static>(prefix: &str) -> Router<S> {
    let base = (!prefix.is_empty()).then(|| format!("{HEAD}<base href=\"{prefix}/\">\n"));
    let page = move |headers: HeaderMap| async move { page(base.as_deref(), &headers) };
    Router::new().route("/", get(page)).route("/page/{file}", get(file))
}

/// The HTML, with `head` in place of its own if there is one.
fn page(head: Option<&str>, headers: &HeaderMap) -> Response {
    let [page, ..] = &*FILES;
    let Some(head) = head else { return page.answer(headers) };
    let mut response = page.answer(&HeaderMap::new());
    *response.body_mut() = page.content.replacen(HEAD, head, 1).into();
    response.headers_mut().remove(header::ETAG);
    response
}

async fn file(PathPart(name): PathPart, headers: HeaderMap) -> Response {
    match FILES.iter().skip(1).find(|file| file.name == name) {
        Some(file) => file.answer(&headers),
        None => ApiError::NotFound(format!("/page/{name}")).into_response(),
    }
}

/// Answers browsers that open an address of the API with a link to the page. Programs do not request HTML and get
/// JSON. `prefix` is that of [`routes`].
pub async fn answer_browsers(State(prefix): State<Arc<str>>, request: Request, next: Next) -> Response {
    let browser = request.method() == Method::GET && wants_html(request.headers());
    let response = next.run(request).await;
    let sentence = match response.status() {
        StatusCode::NOT_FOUND => "There is nothing at this address.",
        StatusCode::METHOD_NOT_ALLOWED => "This address is for programs and needs a POST request.",
        _ => return response,
    };
    if !browser {
        return response;
    }
    let (mut head, _) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    head.headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>tutti</title>\n\
         <p>{sentence} The page to translate with is at <a href=\"{prefix}/\">{prefix}/</a>.</p>\n"
    );
    Response::from_parts(head, html.into())
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.flat_map(|accept| accept.split(',')).any(|one| one.trim().starts_with("text/html"))
}

#[cfg(test)]
mod tests;
