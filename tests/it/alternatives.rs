//! Alternatives of the model that comes with the repository, an Imputer, through the built program.

use std::path::PathBuf;
use std::process::Command;

use reqwest::Client;
use serde_json::{Value, json};

use crate::process::serve_with;
use crate::support::in_time;

async fn post(client: &Client, url: &str, body: &Value) -> Value {
    let response = in_time(client.post(url).json(body).send()).await.unwrap();
    let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imputer_has_alternatives_in_every_dialect_and_they_change_no_answer() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/en-de");
    let (_server, url) = serve_with(command, folder.to_str().unwrap());
    let client = Client::builder().no_proxy().build().unwrap();
    in_time(async { while client.get(format!("{url}/readyz")).send().await.unwrap().status() != 200 {} })
        .await;

    let own = |q: &str, format: &str, steps: u8, alternatives: u8| json!({ "q": q, "source": "en", "target": "de", "format": format, "steps": steps, "alternatives": alternatives });
    let translate = format!("{url}/translate");
    for (text, format, spans) in [
        ("Where is the train station?", "text", vec![]),
        ("I would like to drink a cup of tea. She went home early.", "text", vec![]),
        (
            "Please open {name} or visit https://tutti.example/start now.",
            "text",
            vec!["{name}", "https://tutti.example/start"],
        ),
        (
            "<p>We <b>want</b> to go <a href=\"/x\">home</a> now.</p>",
            "html",
            vec!["<p>", "<b>", "</b>", "<a href=\"/x\">", "</a>", "</p>"],
        ),
    ] {
        for steps in [1, 4, 10] {
            let plain = post(&client, &translate, &own(text, format, steps, 0)).await;
            assert!(plain.get("alternatives").is_none());
            for count in [1, 3, 10] {
                let answer = post(&client, &translate, &own(text, format, steps, count)).await;
                assert_eq!(answer["translatedText"], plain["translatedText"], "{text}, {steps} steps");
                let mut all = texts(&answer["alternatives"]);
                assert!(!all.is_empty() && all.len() <= usize::from(count), "{answer}");
                assert!(count > 3 || all.len() == usize::from(count), "{text}, {steps} steps: {answer}");
                all.push(answer["translatedText"].as_str().unwrap());
                for text in &all {
                    assert!(spans.iter().all(|span| text.matches(span).count() == 1), "{text}");
                }
                let given = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), given, "{answer}");
            }
        }
    }

    let text = "Where is the train station?";
    let expected = post(&client, &translate, &own(text, "text", 1, 3)).await;
    let expected = texts(&expected["alternatives"]);
    for (path, body, place) in [
        (
            "/v2/translate",
            json!({ "text": [text], "source_lang": "EN", "target_lang": "DE" }),
            "/translations/0/alternatives",
        ),
        ("/translate", json!({ "text": text, "from": "en", "to": "de" }), "/alternatives"),
        ("/translate/batch", json!({ "texts": [text], "from": "en", "to": "de" }), "/alternatives/0"),
        (
            "/imme",
            json!({ "text_list": [text], "source_lang": "en", "target_lang": "de" }),
            "/alternatives/0",
        ),
        ("/kiss", json!({ "text": text, "from": "en", "to": "de" }), "/alternatives"),
        ("/deeplx", json!({ "text": text, "source_lang": "EN", "target_lang": "DE" }), "/alternatives"),
    ] {
        let mut body = body;
        body["steps"] = json!(1);
        body["alternatives"] = json!(3);
        let answer = post(&client, &format!("{url}{path}"), &body).await;
        assert_eq!(texts(answer.pointer(place).unwrap()), expected, "{path}");
    }
}
