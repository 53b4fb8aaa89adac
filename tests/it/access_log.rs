//! The access log: one JSON object for each request, and no key in any output of the server.

use std::fs;

use reqwest::RequestBuilder;
use serde_json::Value;
use tutti::http::new_key;

use crate::process::{bundle, tutti};
use crate::program::Program;
use crate::support::{en_de, in_time};

/// A key that nobody has, for example because it was mistyped.
const WRONG: &str = "tutti-2b7e151628aed2a6abf7158809cf4f3c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_one_object_of_the_access_log_and_no_output_has_its_key() {
    let folder = bundle();
    let (key, entry) = new_key("editor");
    fs::write(folder.path().join("keys.toml"), entry).unwrap();
    let mut command = tutti(&folder);
    command.args(["--set", "api_keys=keys.toml", "--set", "access_log=true", "--set", "log=debug"]);
    let (mut server, url) = Program::serve(command, "tiny");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;

    let post = |path: &str| client.post(format!("{url}{path}"));
    let json = |path: &str| post(path).json(&en_de("Hello."));
    let with = |key: &str| {
        let mut body = en_de("Hello.");
        body["api_key"] = key.into();
        post("/translate").json(&body)
    };
    let form = |path: &str, fields: &str| {
        let request = post(path).header("content-type", "application/x-www-form-urlencoded");
        request.body(fields.to_owned())
    };
    let requests: [(&str, u16, RequestBuilder); 9] = [
        ("/translate", 200, json(&format!("/translate?api_key={key}"))),
        ("/translate", 200, json("/translate").bearer_auth(&key)),
        ("/translate", 200, json("/translate").header("x-api-token", &key)),
        ("/translate", 200, with(&key)),
        ("/translate", 200, form("/translate", &format!("q=Hello.&source=en&target=de&api_key={key}"))),
        (
            "/v2/translate",
            200,
            form("/v2/translate", &format!("text=Hello.&source_lang=EN&target_lang=DE&auth_key={key}")),
        ),
        ("/translate", 403, json(&format!("/translate?api_key={WRONG}"))),
        ("/translate", 403, json("/translate").bearer_auth(WRONG)),
        ("/translate", 403, with(WRONG)),
    ];
    let mut expected = Vec::new();
    for (number, (route, status, request)) in (1..).zip(requests) {
        let (id, trace) = (format!("request-{number}"), format!("{number:032x}"));
        let request = request
            .header("x-request-id", &id)
            .header("traceparent", format!("00-{trace}-00000000000000ff-01"));
        assert_eq!(in_time(request.send()).await.unwrap().status(), status, "{id}");
        expected.push((id, trace, route, status));
    }
    drop(client);
    server.signal("TERM");
    assert!(server.until_ended().success(), "{}", server.log());

    let log = server.log();
    let object = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event.is_object(), "{line}");
        event
    };
    let events: Vec<Value> = log.lines().map(object).collect();
    for (id, trace, route, status) in expected {
        let own: Vec<&Value> = events.iter().filter(|event| event["fields"]["id"] == id).collect();
        assert!(own.len() == 1 && own[0]["target"] == "access", "{id}: {own:?}");
        let fields = &own[0]["fields"];
        assert_eq!(
            (fields["method"].as_str(), fields["route"].as_str()),
            (Some("POST"), Some(route)),
            "{id}"
        );
        assert_eq!(fields["status"], status, "{id}");
        assert!(fields["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{fields}");
        assert_eq!(fields["trace_id"], trace, "{id}");
        let client = (status == 200).then_some("editor");
        assert_eq!(fields["client"].as_str(), client, "{id}");
    }
    for secret in [key.as_str(), WRONG].map(|key| key.trim_start_matches("tutti-")) {
        assert!(!log.contains(secret), "a key is in the log: {log}");
        assert!(!server.printed().contains(secret), "a key is on standard output");
    }
}
