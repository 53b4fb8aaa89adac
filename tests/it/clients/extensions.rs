//! Browser extensions in MTranServer's dialect, and events step by step.

use serde_json::{Value, json};

use super::{in_html, replay, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de};

const JSON: &str = "Content-Type: application/json";

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn mtranserver_fields_are_told_from_libretranslates() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\nAuthorization: Bearer key\n{JSON}");
    let body = r#"{"from":"en","to":"de","text":"Where is the train station?"}"#;
    assert_eq!(replay_json(&server, &head, body).await, json!({ "result": best(LINES[0]) }));
    let body = r#"{"from":"auto","to":"de","text":"<b>Where is the train station?</b>","html":true}"#;
    let expected = json!({ "result": format!("<b>{}</b>", in_html(&best(LINES[0]))) });
    assert_eq!(replay_json(&server, &head, body).await, expected);

    let head = format!("POST /translate/batch?token=key HTTP/1.1\n{JSON}");
    let body = r#"{"from":"en","to":"de","texts":["Where is the train station?","","Thank you very much for your help."],"html":false}"#;
    let expected = json!({ "results": [best(LINES[0]), "", best(LINES[4])] });
    assert_eq!(replay_json(&server, &head, body).await, expected);
}

#[tokio::test]
async fn immersive_translate_sends_a_list() {
    let server = Server::start(Setup::default()).await;
    let head = format!(
        "POST /imme?token=key HTTP/1.1\nOrigin: chrome-extension://bpoadfkcbjbfhfodiogcnhhhpibjhbnh\n{JSON}"
    );
    let body = r#"{"source_lang":"en","target_lang":"de","text_list":["Where is the train station?","Thank you very much for your help."]}"#;
    let expected = json!({ "translations": [
        { "detected_source_lang": "en", "text": best(LINES[0]) },
        { "detected_source_lang": "en", "text": best(LINES[4]) },
    ] });
    assert_eq!(replay_json(&server, &head, body).await, expected);
    let body = r#"{"source_lang":"auto","target_lang":"de","text_list":["Das Wetter ist heute schön, und wir gehen spazieren.","Thank you very much for your help."]}"#;
    let expected = json!({ "translations": [
        { "detected_source_lang": "de", "text": LINES[3] },
        { "detected_source_lang": "en", "text": best(LINES[4]) },
    ] });
    assert_eq!(replay_json(&server, &head, body).await, expected);
}

#[tokio::test]
async fn kiss_translator_sends_one_text_or_several() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /kiss HTTP/1.1\nContent-type: application/json\nAuthorization: Bearer key";
    let body = r#"{"text":"Where is the train station?","from":"auto","to":"de"}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer, json!({ "text": best(LINES[0]), "src": "en", "from": "en", "to": "de" }));
    let body = r#"{"text":"Das Wetter ist heute schön, und wir gehen spazieren.","from":"auto","to":"de"}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer, json!({ "text": LINES[3], "src": "de", "from": "de", "to": "de" }));
    let body = r#"{"texts":["Where is the train station?"],"from":"en","to":"de"}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer, json!({ "translations": [{ "text": best(LINES[0]), "src": "en" }] }));
    let body = r#"{"texts":["Das Wetter ist heute schön, und wir gehen spazieren.","Where is the train station?"],"from":"auto","to":"de"}"#;
    let answer = replay_json(&server, head, body).await;
    let expected = json!([{ "text": LINES[3], "src": "de" }, { "text": best(LINES[0]), "src": "en" }]);
    assert_eq!(answer, json!({ "translations": expected }));
}

#[tokio::test]
async fn extensions_find_out_what_is_there() {
    let server = Server::start(Setup::default()).await;
    assert_eq!(replay_json(&server, "GET /models HTTP/1.1", "").await["models"][0]["from"], "en");
    assert!(replay_json(&server, "GET /version HTTP/1.1", "").await["version"].is_string());
    for path in ["/__heartbeat__", "/__lbheartbeat__"] {
        assert_eq!(replay(&server, &format!("GET {path} HTTP/1.1"), b"").await.0, 200);
    }
    let head = format!("POST /deeplx HTTP/1.1\n{JSON}");
    let body = json!({ "source_lang": "EN", "target_lang": "DE", "text": LINES[0] });
    assert_eq!(replay_json(&server, &head, body.to_string()).await["data"], best(LINES[0]));
    let body = json!({ "target_lang": "DE", "text": LINES[3] });
    assert_eq!(replay_json(&server, &head, body.to_string()).await["source_lang"], "DE");
    for (path, body) in [
        ("/imme", json!({ "target_lang": "de" })),
        ("/kiss", json!({ "from": "en", "to": "de" })),
        ("/translate/batch", json!({ "from": "en", "to": "zz", "texts": ["a"] })),
    ] {
        let head = format!("POST {path} HTTP/1.1\n{JSON}");
        let (status, _, answer) = replay(&server, &head, body.to_string().as_bytes()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(status == 400 && answer["error"].is_string(), "{path}: {answer}");
    }
}

/// Names and data of an event stream.
fn events(body: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(body).unwrap();
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    text.split("\n\n")
        .filter_map(|event| {
            Some((field(event, "event:")?, serde_json::from_str(&field(event, "data:")?).unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn a_stream_has_an_event_a_step_and_then_the_answer() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate/stream?steps=3 HTTP/1.1\nAccept: text/event-stream\n{JSON}");
    let (status, headers, body) = replay(&server, &head, en_de(LINES[0]).to_string().as_bytes()).await;
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".into(), "text/event-stream".into())), "{headers:?}");
    let events = events(&body);
    let steps: Vec<&Value> = events.iter().filter(|(name, _)| name == "step").map(|(_, data)| data).collect();
    assert_eq!(steps.iter().map(|step| step["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let slots = steps[0]["slots"].as_array().unwrap();
    assert!(
        slots.iter().any(|slot| slot["changed"] == true) && slots.iter().any(|slot| slot["text"] == " _")
    );
    let times: Vec<f64> = steps.iter().map(|step| step["elapsed_ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let (name, answer) = events.last().unwrap();
    assert_eq!(name, "done");
    assert_eq!(answer["translatedText"], alone(LINES[0], 3, DEFAULT_BEAM));

    let (status, _, body) = replay(&server, &head, b"{}").await;
    assert_eq!((status, &body[..9]), (400, b"{\"code\":\"".as_slice()));
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_an_event() {
    let server = Server::start(Setup::default()).await;
    server.gate.close();
    let head = format!("POST /translate/stream?deadline_ms=30 HTTP/1.1\n{JSON}");
    let (status, _, body) = replay(&server, &head, en_de("Hello.").to_string().as_bytes()).await;
    let events = events(&body);
    assert_eq!((status, events[0].0.as_str()), (200, "error"));
    assert_eq!(events[0].1["code"], "deadline_exceeded");
}

#[tokio::test]
async fn terms_of_a_glossary_are_put_in_as_they_are_given() {
    let server = Server::start(Setup::default()).await;
    let mut body = en_de("TRAIN station");
    body["glossary"] = json!({ "train station": "Hauptbahnhof" });
    assert_eq!(server.translate("/translate", body.clone()).await["translatedText"], "Hauptbahnhof");
    body["glossary"] = json!("{\"train\":\"Zug\",\"station\":\"Halt\"}");
    assert_eq!(server.translate("/translate", body.clone()).await["translatedText"], "Zug Halt");

    let stored = json!({ "name": "rail", "terms": { "train station": "Bf" } });
    let response = server.post("/glossaries", &stored).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let id = response.json::<Value>().await.unwrap()["id"].clone();
    body["glossary"] = id.clone();
    assert_eq!(server.translate("/translate", body.clone()).await["translatedText"], "Bf");
    let path = format!("/glossaries/{}", id.as_str().unwrap());
    assert_eq!(server.get(&path).await.json::<Value>().await.unwrap()["terms"], stored["terms"]);
    assert_eq!(server.client.delete(server.url(&path)).send().await.unwrap().status(), 204);
    assert_eq!(server.post("/translate", &body).send().await.unwrap().status(), 404);
    for bad in [json!({ "a": "" }), json!(7), json!({ "a": 1 }), json!("{")] {
        body["glossary"] = bad;
        assert_eq!(server.post("/translate", &body).send().await.unwrap().status(), 400, "{body}");
    }
}
