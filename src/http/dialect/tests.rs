use axum::Router;
use axum::body::{Body, to_bytes};
use axum::middleware::from_fn;
use axum::routing::get;
use serde_json::Value;
use tower::ServiceExt;

use super::*;

async fn panics() -> StatusCode {
    panic!("test panic")
}

async fn part(PathPart(part): PathPart) -> String {
    part
}

async fn get_json(path: &str) -> (u16, Value) {
    let routes = Router::new().route("/v2/translate", get(panics)).route("/translate", get(panics));
    let routes = routes.route("/v2/glossaries/{id}", get(part)).route("/glossaries/{id}", get(part));
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = routes.layer(from_fn(catch_panics)).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    (
        status,
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into())),
    )
}

#[tokio::test]
async fn a_panic_is_answered_in_the_dialect_of_its_route() {
    assert_eq!(get_json("/v2/translate").await, (500, json!({ "message": "internal error" })));
    assert_eq!(get_json("/translate").await, (500, json!({ "error": "internal error", "code": "internal" })));
}

#[tokio::test]
async fn a_path_that_is_not_utf_8_is_refused_as_json() {
    assert_eq!(get_json("/glossaries/%C3%BC").await, (200, json!("ü")));
    let (status, answer) = get_json("/v2/glossaries/%FF").await;
    assert!(status == 400 && answer["message"].is_string(), "{answer}");
    let (status, answer) = get_json("/glossaries/%FF").await;
    assert!(status == 400 && answer["error"].is_string(), "{answer}");
}
