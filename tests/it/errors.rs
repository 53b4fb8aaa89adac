//! Every refusal: its status, its JSON, and wording that clients recognize.

use std::sync::atomic::Ordering;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tutti::decode::Limits;
use tutti::decode::testing::fake::{Fault, Pass};
use tutti::settings::HttpSettings;

use crate::support::{Server, Setup, TOKENIZER, en_de, fake, in_time};

/// A refusal is JSON with a text and a code, on every route.
async fn refusal(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.headers().contains_key("x-request-id"));
    let body: Value = response.json().await.unwrap();
    let text =
        |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{key} is missing: {body}")).to_owned();
    (status, text("error"), text("code"))
}

fn small() -> Setup {
    let http =
        HttpSettings { max_body_bytes: 4096, max_texts: 3, max_text_chars: 600, ..Setup::default().http };
    let limits = Limits { source_tokens: 40, target_tokens: 40, has_blanks: false };
    Setup { http, fake: fake().with_limits(limits), ..Setup::default() }
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_in_words_that_clients_know() {
    let server = Server::start(small()).await;
    let with = |key: &str, value: Value| {
        let mut body = en_de("Hello.");
        body[key] = value;
        body.to_string()
    };
    let long = "word ".repeat(150);
    let cases: Vec<(String, u16, &str)> = vec![
        ("{".into(), 400, "Invalid request: the body is not valid JSON"),
        ("[1]".into(), 400, "Invalid request: the body is not a JSON object"),
        ("\"q\"".into(), 400, "Invalid request: the body is not a JSON object"),
        ("{}".into(), 400, "Invalid request: missing q parameter"),
        (String::new(), 400, "Invalid request: missing q parameter"),
        (with("q", Value::Null), 400, "Invalid request: missing q parameter"),
        (with("q", json!("")), 400, "Invalid request: missing q parameter"),
        (with("q", json!([])), 400, "Invalid request: missing q parameter"),
        (with("q", json!(7)), 400, "Invalid request: q parameter is neither a string nor an array"),
        (with("q", json!(["a", 7])), 400, "Invalid request: q parameter is not an array of strings"),
        (json!({ "q": "a", "target": "de" }).to_string(), 400, "Invalid request: missing source parameter"),
        (json!({ "q": "a", "source": "en" }).to_string(), 400, "Invalid request: missing target parameter"),
        (with("source", json!(["en"])), 400, "Invalid request: source parameter is not a string"),
        (with("source", json!("zz")), 400, "zz is not supported"),
        (with("target", json!("auto")), 400, "auto is not supported"),
        (with("target", json!("ZZ")), 400, "zz is not supported"),
        (
            with("target", json!("en")),
            400,
            "English (en) is not available as a target language from English (en)",
        ),
        (
            with("source", json!("de")),
            400,
            "German (de) is not available as a target language from German (de)",
        ),
        (with("format", json!("pdf")), 400, "Invalid request: pdf format is not supported"),
        (with("model", json!("large")), 400, "Invalid request: model large is not served"),
        (with("steps", json!(0)), 400, "Invalid request: steps parameter must be >= 1"),
        (with("steps", json!(21)), 400, "Invalid request: steps parameter must be <= 20"),
        (with("steps", json!(1.5)), 400, "Invalid request: steps parameter is not a number"),
        (with("steps", json!("many")), 400, "Invalid request: steps parameter is not a number"),
        (with("length_beam", json!(11)), 400, "Invalid request: length_beam parameter must be <= 10"),
        (with("alternatives", json!(-1)), 400, "Invalid request: alternatives parameter is not a number"),
        (with("alternatives", json!(11)), 400, "Invalid request: alternatives parameter must be <= 10"),
        (with("deadline_ms", json!(0)), 400, "Invalid request: deadline_ms parameter must be >= 1"),
        (
            with("scores", json!("perhaps")),
            400,
            "Invalid request: scores parameter is neither true nor false",
        ),
        (with("q", json!(["a", "b", "c", "d"])), 413, "Invalid request: request (4) exceeds text limit (3)"),
        (with("q", json!(long)), 413, "Invalid request: request (750) exceeds text limit (600)"),
        (
            with("q", json!("x".repeat(5000))),
            413,
            "Invalid request: the body exceeds the limit of 4096 bytes",
        ),
    ];
    for (body, status, words) in cases {
        let request = server.client.post(server.url("/translate")).header("content-type", "application/json");
        let response = in_time(request.body(body.clone()).send()).await.unwrap();
        let (got, error, code) = refusal(response).await;
        assert_eq!(got, status, "{body}: {error}");
        assert!(error.contains(words), "{body}: {error:?} does not say {words:?}");
        let expected = match status {
            413 => "too_large",
            _ if words.contains("Invalid request") => "invalid_request",
            _ => "unsupported_language",
        };
        assert_eq!(code, expected, "{body}");
    }
    assert_eq!(server.metric("tutti_http_requests_total", &[("code", "413")]).await, 3.0);
}

#[tokio::test]
async fn wrong_routes_methods_and_media_types_are_told_apart() {
    let server = Server::start(small()).await;
    let request = |method, path: &str| server.client.request(method, server.url(path));
    let response = in_time(request(Method::GET, "/nowhere").send()).await.unwrap();
    assert_eq!(refusal(response).await, (404, "there is nothing at /nowhere".into(), "not_found".into()));

    for (method, path, allowed) in [
        (Method::GET, "/translate", "POST"),
        (Method::DELETE, "/translate", "POST"),
        (Method::PUT, "/languages", "GET"),
        (Method::PUT, "/metrics", "GET"),
    ] {
        let response = in_time(request(method.clone(), path).send()).await.unwrap();
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allow.split(',').any(|m| m == allowed), "{method} {path}: Allow: {allow}");
        let expected = (405, format!("method {method} is not allowed here"), "method_not_allowed".to_owned());
        assert_eq!(refusal(response).await, expected);
    }

    for media_type in ["text/plain", "application/xml"] {
        let request = request(Method::POST, "/translate").header("content-type", media_type).body("Hello.");
        let (status, error, code) = refusal(in_time(request.send()).await.unwrap()).await;
        assert_eq!((status, code.as_str()), (415, "media_type"), "{error}");
    }
    let without = request(Method::POST, "/translate").body("Hello.");
    assert_eq!(refusal(in_time(without.send()).await.unwrap()).await.0, 415);
    for media_type in ["multipart/form-data; boundary=x", "multipart/form-data"] {
        let request = request(Method::POST, "/translate").header("content-type", media_type).body("{}");
        let (status, error, _) = refusal(in_time(request.send()).await.unwrap()).await;
        assert!(status == 400 && error.contains("multipart"), "{error}");
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_504_and_its_sentence_is_let_go() {
    let server = Server::start(Setup::default()).await;
    server.gate.close();
    let request = server.post("/translate?deadline_ms=30", &en_de("Hello."));
    let (status, error, code) = refusal(in_time(request.send()).await.unwrap()).await;
    assert_eq!((status, code.as_str()), (504, "deadline_exceeded"), "{error}");
    assert!(error.contains("30 ms"), "{error}");
    server.gate.open();
    server.until_in_engine(0.0).await;
}

#[tokio::test]
async fn before_the_warm_up_is_done_only_probes_say_yes() {
    let setup = Setup::default();
    setup.fake.gate().close();
    let server = Server::start_cold(setup).await;
    for path in ["/readyz", "/startupz"] {
        let response = server.get(path).await;
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(refusal(response).await.2, "not_ready");
    }
    let response = in_time(server.post("/translate", &en_de("Hello.")).send()).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(refusal(response).await.0, 503);
    assert_eq!(server.get("/livez").await.status(), 200);
    assert_eq!(server.get("/health").await.status(), 200);
    assert_eq!(server.metric("tutti_ready", &[]).await, 0.0);

    server.gate.open();
    in_time(async { while server.get("/readyz").await.status() != 200 {} }).await;
    assert_eq!(server.get("/startupz").await.status(), 200);
}

/// A word that makes the network fail: only its own request fails.
#[tokio::test]
async fn one_bad_input_fails_only_itself() {
    let poison = TOKENIZER.encode("weather").unwrap();
    let poison = poison.into_iter().max().unwrap();
    let setup = Setup { fake: fake().failing_on(poison, Pass::Decode, Fault::Panic), ..Setup::default() };
    let server = Server::start(setup).await;
    for _ in 0..5 {
        let response = in_time(server.post("/translate", &en_de("The weather.")).send()).await.unwrap();
        let (status, error, _) = refusal(response).await;
        assert_eq!((status, error.as_str()), (500, "internal error"));
        server.translate("/translate", en_de("Thank you.")).await;
    }
    assert_eq!(server.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn a_dead_model_thread_ends_the_server_with_an_error() {
    let setup = Setup::default();
    let broken = setup.fake.broken();
    let mut server = Server::start(setup).await;
    broken.store(true, Ordering::SeqCst);
    let response = in_time(server.post("/translate", &en_de("Hello.")).send()).await.unwrap();
    let (status, error, code) = refusal(response).await;
    assert_eq!((status, code.as_str()), (503, "engine_dead"));
    // What broke is for the log.
    assert_eq!(error, "the model has stopped and this server will exit; try another server");
    assert!(matches!(server.ended().await, Err(tutti::Error::EngineDead(_))));
}
