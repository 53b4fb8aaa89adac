//! What LibreTranslate's own tests assert of its API (`libretranslate/tests/test_api`), in our words and for our pair of
//! languages. One of them does not hold here on purpose: POST on `/languages` is answered, because libretranslatepy and
//! LibreTranslate-sh send it.

use serde_json::{Value, json};

use super::{replay, replay_json};
use crate::support::{Server, Setup};

const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// Status and JSON of an answer.
async fn ask(server: &Server, head: &str, body: &str) -> (u16, Value) {
    let (status, _, answer) = replay(server, head, body.as_bytes()).await;
    (status, serde_json::from_slice(&answer).unwrap())
}

#[tokio::test]
async fn detection_of_a_form_is_a_list_with_confidence_and_language() {
    let server = Server::start(Setup::default()).await;
    let answer = replay_json(&server, &format!("POST /detect HTTP/1.1\n{FORM}"), "q=Hello").await;
    assert!(!answer.as_array().unwrap().is_empty());
    assert!(answer[0]["confidence"].is_number() && answer[0]["language"].is_string(), "{answer}");
}

#[tokio::test]
async fn detection_without_a_text_and_by_get_is_refused() {
    let server = Server::start(Setup::default()).await;
    let (status, answer) = ask(&server, "POST /detect HTTP/1.1", "").await;
    assert!(status == 400 && answer["error"].is_string(), "{answer}");
    assert_eq!(replay(&server, "GET /detect HTTP/1.1", b"").await.0, 405);
}

#[tokio::test]
async fn settings_and_description_are_got_and_the_description_takes_no_post() {
    let server = Server::start(Setup::default()).await;
    assert_eq!(replay(&server, "GET /frontend/settings HTTP/1.1", b"").await.0, 200);
    assert_eq!(replay(&server, "GET /spec HTTP/1.1", b"").await.0, 200);
    assert_eq!(replay(&server, "POST /spec HTTP/1.1", b"").await.0, 405);
}

#[tokio::test]
async fn health_is_got_and_takes_no_post() {
    let server = Server::start(Setup::default()).await;
    assert_eq!(replay_json(&server, "GET /health HTTP/1.1", "").await, json!({ "status": "ok" }));
    assert_eq!(replay(&server, "POST /health HTTP/1.1", b"").await.0, 405);
}

#[tokio::test]
async fn languages_have_a_code_and_a_name() {
    let server = Server::start(Setup::default()).await;
    let answer = replay_json(&server, "GET /languages HTTP/1.1", "").await;
    assert!(answer[0]["code"].is_string() && answer[0]["name"].is_string(), "{answer}");
    assert_eq!(replay_json(&server, "POST /languages HTTP/1.1", "").await, answer);
}

#[tokio::test]
async fn a_form_is_translated_and_a_list_of_json_becomes_a_list() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\n{FORM}");
    let answer = replay_json(&server, &head, "q=Hello&source=en&target=de&format=text").await;
    assert!(answer["translatedText"].is_string(), "{answer}");
    let body = json!({ "q": ["Hello", "World"], "source": "en", "target": "de", "format": "text" });
    let head = format!("POST /translate HTTP/1.1\n{JSON}");
    let answer = replay_json(&server, &head, body.to_string()).await;
    assert_eq!(answer["translatedText"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_language_that_is_not_served_and_a_missing_text_are_refused_in_known_words() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\n{FORM}");
    let (status, answer) = ask(&server, &head, "q=Hello&source=en&target=zz&format=text").await;
    assert_eq!((status, &answer["error"]), (400, &json!("zz is not supported")));
    let (status, answer) = ask(&server, &head, "source=en&target=de&format=text").await;
    assert_eq!((status, &answer["error"]), (400, &json!("Invalid request: missing q parameter")));
}
