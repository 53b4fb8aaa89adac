//! DeepL's official clients, as they send: JSON and multipart from Python, forms from Node.

use serde_json::{Value, json};

use super::{in_html, replay, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone};

const KEY: &str = "Authorization: DeepL-Auth-Key key:fx\nUser-Agent: deepl-python/1.32.0";
const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn python_sends_lists_as_json() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    let body = json!({
        "target_lang": "DE", "source_lang": "EN", "formality": "more", "text": [LINES[0], ""],
        "show_billed_characters": true, "context": "ignored", "split_sentences": "nonewlines",
        "preserve_formatting": true, "model_type": "quality_optimized",
    });
    let answer = replay_json(&server, &head, body.to_string()).await;
    let translation = |text: &str, characters: usize| {
        json!({
            "detected_source_language": "EN", "text": text, "billed_characters": characters,
            "model_type_used": "quality_optimized",
        })
    };
    let expected = [translation(&best(LINES[0]), LINES[0].len()), translation("", 0)];
    assert_eq!(answer, json!({ "translations": expected }));
    assert_eq!(
        replay_json(&server, &format!("GET /v2/usage HTTP/1.1\n{KEY}"), "").await["character_count"],
        LINES[0].len()
    );
}

#[tokio::test]
async fn node_sends_forms_with_a_text_each() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{FORM}");
    let body = "text=Where+is+the+train+station%3F&text=Thank+you+very+much+for+your+help.&target_lang=de&show_billed_characters=1";
    let answer = replay_json(&server, &head, body).await;
    assert_eq!(answer["translations"][0]["text"], best(LINES[0]));
    assert_eq!(answer["translations"][1]["text"], best(LINES[4]));
    assert_eq!(answer["translations"][1]["detected_source_language"], "EN");
}

#[tokio::test]
async fn the_kind_of_model_becomes_a_number_of_steps_and_steps_win() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    for (extra, steps) in [
        (json!({ "model_type": "latency_optimized" }), 1),
        (json!({ "model_type": "prefer_quality_optimized" }), 4),
        (json!({ "model_type": "quality_optimized", "steps": 2 }), 2),
    ] {
        let mut body = json!({ "text": [LINES[2]], "target_lang": "DE", "source_lang": "EN" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = replay_json(&server, &head, body.to_string()).await;
        assert_eq!(answer["translations"][0]["text"], alone(LINES[2], steps, DEFAULT_BEAM), "{extra}");
    }
}

#[tokio::test]
async fn alternatives_come_if_a_client_sends_that_parameter_of_its_own() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    let body = json!({ "text": [LINES[0]], "target_lang": "DE", "source_lang": "EN", "alternatives": 2 });
    let answer = replay_json(&server, &head, body.to_string()).await;
    assert_eq!(answer["translations"][0]["text"], best(LINES[0]));
    assert_eq!(answer["translations"][0]["alternatives"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tags_are_handled() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    for (handling, text, expected) in [
        ("html", format!("<p title=kept>{}</p>", LINES[0]), None),
        (
            "xml",
            format!("<a><keep>{}</keep>{}</a>", LINES[4], LINES[0]),
            Some(format!("<a><keep>{}</keep>{}</a>", LINES[4], in_html(&best(LINES[0])))),
        ),
    ] {
        let body = json!({ "text": text, "target_lang": "DE", "source_lang": "EN", "tag_handling": handling, "ignore_tags": ["keep"] });
        let answer = replay_json(&server, &head, body.to_string()).await;
        let got = answer["translations"][0]["text"].as_str().unwrap();
        match expected {
            Some(expected) => assert_eq!(got, expected),
            None => assert!(got.ends_with(&format!(">{}</p>", in_html(&best(LINES[0])))), "{got}"),
        }
    }
}

#[tokio::test]
async fn languages_come_as_deepl_writes_them() {
    let server = Server::start(Setup::default()).await;
    let head = format!("GET /v2/languages HTTP/1.1\n{KEY}");
    assert_eq!(replay_json(&server, &head, "").await, json!([{ "language": "EN", "name": "English" }]));
    let target = json!([{ "language": "DE", "name": "German", "supports_formality": false }]);
    let with_form = format!("{head}\n{FORM}");
    assert_eq!(replay_json(&server, &with_form, "type=target").await, target);
    let with_query = format!("GET /v2/languages?type=target HTTP/1.1\n{KEY}");
    assert_eq!(replay_json(&server, &with_query, "").await, target);
    let pairs = replay_json(&server, &format!("GET /v2/glossary-language-pairs HTTP/1.1\n{KEY}"), "").await;
    assert_eq!(pairs, json!({ "supported_languages": [{ "source_lang": "en", "target_lang": "de" }] }));
}

#[tokio::test]
async fn glossaries_are_made_listed_used_and_deleted() {
    let server = Server::start(Setup::default()).await;
    let create = format!("POST /v2/glossaries HTTP/1.1\n{KEY}\n{JSON}");
    let body = json!({ "name": "mine", "source_lang": "EN", "target_lang": "DE", "entries_format": "tsv", "entries": "train\tZug\nstation\tHalt" });
    let (status, _, made) = replay(&server, &create, body.to_string().as_bytes()).await;
    let made: Value = serde_json::from_slice(&made).unwrap();
    assert_eq!((status, &made["entry_count"], &made["ready"]), (201, &json!(2), &json!(true)));
    assert!(made["creation_time"].as_str().unwrap().ends_with('Z'));
    let id = made["glossary_id"].as_str().unwrap();
    let one = format!("/v2/glossaries/{id} HTTP/1.1\n{KEY}");
    assert_eq!(replay_json(&server, &format!("GET {one}"), "").await, made);
    let all = replay_json(&server, &format!("GET /v2/glossaries HTTP/1.1\n{KEY}"), "").await;
    assert_eq!(all, json!({ "glossaries": [made] }));
    let entries =
        format!("GET /v2/glossaries/{id}/entries HTTP/1.1\n{KEY}\nAccept: text/tab-separated-values");
    assert_eq!(replay(&server, &entries, b"").await.2, b"train\tZug\nstation\tHalt");

    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    let mut body =
        json!({ "text": ["Train station"], "target_lang": "DE", "source_lang": "EN", "glossary_id": id });
    assert_eq!(replay_json(&server, &head, body.to_string()).await["translations"][0]["text"], "Zug Halt");
    assert_eq!(replay(&server, &format!("DELETE {one}"), b"").await.0, 204);
    assert_eq!(replay(&server, &head, body.to_string().as_bytes()).await.0, 404);
    body.as_object_mut().unwrap().remove("source_lang");
    assert_eq!(replay(&server, &head, body.to_string().as_bytes()).await.0, 400);

    let mut statuses = Vec::new();
    for _ in 0..101 {
        let body = json!({ "name": "more", "source_lang": "en", "target_lang": "de", "entries_format": "csv", "entries": "\"a, b\",c,en,de" });
        statuses.push(replay(&server, &create, body.to_string().as_bytes()).await.0);
    }
    assert!(statuses[..100].iter().all(|status| *status == 201) && statuses[100] == 456, "{statuses:?}");
}

#[tokio::test]
async fn documents_are_uploaded_asked_for_and_fetched() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/document HTTP/1.1\n{KEY}\nContent-Type: multipart/form-data; boundary=b");
    let upload = |name: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"target_lang\"\r\n\r\nDE\r\n--b\r\nContent-Disposition: form-data; name=\"source_lang\"\r\n\r\nEN\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{}\r\n--b--\r\n",
            LINES[0]
        )
    };
    let handle = replay_json(&server, &head, upload("a.txt")).await;
    let id = handle["document_id"].as_str().unwrap();
    let key = json!({ "document_key": handle["document_key"] }).to_string();
    let status = format!("POST /v2/document/{id} HTTP/1.1\n{KEY}\n{JSON}");
    let expected = json!({ "document_id": id, "status": "done", "billed_characters": LINES[0].len() });
    assert_eq!(replay_json(&server, &status, &key).await, expected);
    let result = format!("POST /v2/document/{id}/result HTTP/1.1\n{KEY}\n{JSON}");
    assert_eq!(replay(&server, &result, key.as_bytes()).await.2, best(LINES[0]).as_bytes());
    assert_eq!(replay(&server, &status, b"{\"document_key\":\"other\"}").await.0, 404);
    assert_eq!(replay(&server, &head, upload("a.docx").as_bytes()).await.0, 400);
}

#[tokio::test]
async fn errors_have_a_message() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /v2/translate HTTP/1.1\n{KEY}\n{JSON}");
    for (head, body, status) in [
        (head.as_str(), "{", 400),
        (head.as_str(), "{\"text\":[\"a\"]}", 400),
        (head.as_str(), "{\"text\":[\"a\"],\"target_lang\":\"ZZ\"}", 400),
        (head.as_str(), "{\"text\":[\"a\"],\"target_lang\":\"DE\",\"tag_handling\":\"pdf\"}", 400),
        ("GET /v2/nothing HTTP/1.1", "", 404),
        ("GET /v2/translate HTTP/1.1", "", 405),
    ] {
        let (got, _, answer) = replay(&server, head, body.as_bytes()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((got, answer["message"].is_string()), (status, true), "{head} {body}: {answer}");
    }
}
