//! Every refusal is JSON in the shape that the clients of its route read: `{"message"}` under `/v2`, `{"error"}` elsewhere.

use serde_json::{Value, json};
use tutti::decode::testing::fake::{Fault, Pass};

use super::replay;
use crate::support::{Server, Setup, TOKENIZER, fake};

/// A call of each dialect with a body for the text, and the field of its errors.
fn calls(text: &str) -> [(&'static str, Value, &'static str); 7] {
    [
        ("/translate", json!({ "q": text, "source": "en", "target": "de" }), "error"),
        ("/translate", json!({ "text": text, "from": "en", "to": "de" }), "error"),
        ("/translate/batch", json!({ "texts": [text], "from": "en", "to": "de" }), "error"),
        ("/imme", json!({ "text_list": [text], "source_lang": "en", "target_lang": "de" }), "error"),
        ("/kiss", json!({ "text": text, "from": "en", "to": "de" }), "error"),
        ("/deeplx", json!({ "text": text, "source_lang": "EN", "target_lang": "DE" }), "error"),
        ("/v2/translate", json!({ "text": [text], "source_lang": "EN", "target_lang": "DE" }), "message"),
    ]
}

/// The answer must be this refusal: JSON with the one field and not the other.
async fn refused(server: &Server, head: &str, body: &str, status: u16, field: &str) -> Vec<(String, String)> {
    let (got, headers, answer) = replay(server, head, body.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(got, status, "{head}: {answer}");
    let json: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{head}: {answer}"));
    let other = if field == "error" { "message" } else { "error" };
    assert!(json[field].is_string() && json[other].is_null(), "{head}: {json}");
    let content_type =
        headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
    assert_eq!(content_type, Some("application/json"), "{head}");
    headers
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\nContent-Type: application/json")
}

#[tokio::test]
async fn what_is_not_there_not_allowed_too_large_or_of_another_type_is_refused_in_each_dialect() {
    let mut setup = Setup::default();
    setup.http.max_body_bytes = 4096;
    let server = Server::start(setup).await;
    for (path, body, field) in calls("Thank you.") {
        refused(&server, &format!("GET {path}/nothing HTTP/1.1"), "", 404, field).await;
        refused(&server, &format!("PUT {path} HTTP/1.1"), "", 405, field).await;
        let large = body.to_string().replace("Thank you.", &"x".repeat(5000));
        refused(&server, &post(path), &large, 413, field).await;
        let head = format!("POST {path} HTTP/1.1\nContent-Type: text/plain");
        refused(&server, &head, "Thank you.", 415, field).await;
        refused(&server, &post(path), "{", 400, field).await;
        assert_eq!(replay(&server, &post(path), body.to_string().as_bytes()).await.0, 200, "{path}");
    }
    for path in ["/v2", "/v2/", "/v2/nothing"] {
        refused(&server, &format!("GET {path} HTTP/1.1"), "", 404, "message").await;
    }
    for (path, field) in
        [("/glossaries/%FF", "error"), ("/download_file/%FF", "error"), ("/v2/glossaries/%FF", "message")]
    {
        refused(&server, &format!("GET {path} HTTP/1.1"), "", 400, field).await;
    }
}

#[tokio::test]
async fn a_server_that_is_busy_says_so_in_each_dialect() {
    let mut setup = Setup::default();
    setup.http.max_concurrent_requests = 1;
    let server = Server::start(setup).await;
    server.gate.close();
    let (path, body, _) = calls("Thank you.")[0].clone();
    let first = tokio::spawn(server.post(path, &body).send());
    server.until_held().await;
    for (path, body, field) in calls("Good morning.") {
        let headers = refused(&server, &post(path), &body.to_string(), 429, field).await;
        assert!(headers.iter().any(|(name, _)| name == "retry-after"), "{path}");
    }
    server.gate.open();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_fault_inside_is_told_in_each_dialect_and_not_explained() {
    let poison = TOKENIZER.encode("weather").unwrap().into_iter().max().unwrap();
    let setup = Setup { fake: fake().failing_on(poison, Pass::Decode, Fault::Panic), ..Setup::default() };
    let server = Server::start(setup).await;
    for (path, body, field) in calls("The weather.") {
        refused(&server, &post(path), &body.to_string(), 500, field).await;
    }
}
