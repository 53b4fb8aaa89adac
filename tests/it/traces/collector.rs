//! The spans that a collector receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tutti::http::Traces;
use tutti::settings::HttpSettings;

use super::{GIVEN, TRACE};
use crate::support::{Server, Setup, en_de, in_time};

type Spans = Arc<Mutex<Vec<Value>>>;

/// Starts a collector. Returns its endpoint, and the spans that it receives.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let router = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (endpoint, spans)
}

async fn receive(State(spans): State<Spans>, Json(sent): Json<Value>) -> Json<Value> {
    for resource in sent["resourceSpans"].as_array().unwrap() {
        for scope in resource["scopeSpans"].as_array().unwrap() {
            spans.lock().unwrap().extend(scope["spans"].as_array().unwrap().iter().cloned());
        }
    }
    Json(json!({}))
}

fn with_collector(endpoint: String) -> Setup {
    let http = HttpSettings { otlp_endpoint: Some(endpoint), ..Setup::default().http };
    Setup { http, ..Setup::default() }
}

fn text<'a>(span: &'a Value, key: &str) -> &'a str {
    span[key].as_str().unwrap_or_default()
}

/// A time in nanoseconds, which JSON may contain as a text.
fn nanos(span: &Value, key: &str) -> u64 {
    match &span[key] {
        Value::String(number) => number.parse().unwrap(),
        number => number.as_u64().unwrap(),
    }
}

/// How many spans there are of each name.
fn counts(spans: &[&Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for span in spans {
        *counts.entry(text(span, "name").to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_a_span_for_each_stage_and_each_step() {
    let (endpoint, spans) = collector().await;
    let mut server = Server::start(with_collector(endpoint)).await;
    let body = en_de("The weather is nice today, and we are going for a walk.");
    let request = server.post("/translate?steps=3", &body).header("traceparent", GIVEN);
    let answer = in_time(request.send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let own = answer.headers()["traceparent"].to_str().unwrap().to_owned();
    server.shut_down();
    server.ended().await.unwrap();

    let spans = spans.lock().unwrap();
    let ours: Vec<&Value> = spans.iter().filter(|span| text(span, "traceId") == TRACE).collect();
    let mut counts = counts(&ours);
    let mut count = |name: &str| counts.remove(name).unwrap_or(0);
    assert_eq!(["POST /translate", "tokenize", "detokenize"].map(&mut count), [1, 1, 1], "{ours:?}");
    // More than one if the sentence is translated again.
    let (queue, encode, steps) = (count("queue"), count("encode"), count("step"));
    assert!(queue >= 1 && encode == queue && steps >= encode, "{ours:?}");
    assert!(counts.is_empty(), "{counts:?}");

    let root = ours.iter().find(|span| text(span, "name") == "POST /translate").unwrap();
    assert_eq!(text(root, "parentSpanId"), "00f067aa0ba902b7");
    assert_eq!(own, format!("00-{TRACE}-{}-01", text(root, "spanId")));
    for span in ours.iter().filter(|span| text(span, "name") != "POST /translate") {
        assert_eq!(span["parentSpanId"], root["spanId"], "{span}");
        assert!(nanos(span, "startTimeUnixNano") >= nanos(root, "startTimeUnixNano"), "{span}");
        assert!(nanos(span, "endTimeUnixNano") <= nanos(root, "endTimeUnixNano"), "{span}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_decides_whether_its_request_has_spans_and_probes_have_none() {
    let (endpoint, spans) = collector().await;
    let mut server = Server::start(with_collector(endpoint)).await;
    let ask = || server.post("/translate", &en_de("Thank you."));
    let not_sampled = GIVEN.replace("-01", "-00");
    let refused = in_time(ask().header("traceparent", not_sampled).send()).await.unwrap();
    let own = refused.headers()["traceparent"].to_str().unwrap();
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-00"), "{own}");
    // A request without a trace starts one.
    assert!(in_time(ask().send()).await.unwrap().headers().contains_key("traceparent"));
    let probe = server.client.get(server.url("/livez")).header("traceparent", GIVEN);
    assert!(in_time(probe.send()).await.unwrap().headers().contains_key("traceparent"));
    server.shut_down();
    server.ended().await.unwrap();

    let spans = spans.lock().unwrap();
    let roots: Vec<&str> =
        spans.iter().map(|span| text(span, "name")).filter(|name| name.contains('/')).collect();
    assert_eq!(roots, ["POST /translate"]);
    assert!(spans.iter().all(|span| text(span, "traceId") != TRACE), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_spans_of_its_steps() {
    let (endpoint, spans) = collector().await;
    let mut server = Server::start(with_collector(endpoint)).await;
    let request = server.post("/translate/stream", &en_de("Thank you.")).header("traceparent", GIVEN);
    let answer = in_time(request.send()).await.unwrap();
    assert!(in_time(answer.text()).await.unwrap().contains("event: done"));
    server.shut_down();
    server.ended().await.unwrap();

    let spans = spans.lock().unwrap();
    let counts = counts(&spans.iter().collect::<Vec<_>>());
    assert_eq!((counts["POST /translate/stream"], counts["detokenize"]), (1, 1), "{counts:?}");
    assert!(counts["step"] >= 1, "{counts:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_a_url_is_refused() {
    let http = with_collector("http://a b".to_owned()).http;
    let error = Traces::open(&http).err().expect("must be refused").to_string();
    assert!(error.contains("otlp_endpoint"), "{error}");
}
