//! Documents with texts in several scripts: those in another script than the source language's stay as they are.

use serde_json::json;

use crate::clients::{in_html, multipart, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de, in_time};

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn a_block_of_html_in_another_script_is_kept_and_the_others_are_translated() {
    let server = Server::start(Setup::default()).await;
    let page = |first: &str, last: &str| {
        format!("<p>{first}</p>\n<p>Здравствуйте, <b>мир</b>!</p>\n<p>Спасибо.</p>\n<p>{last}</p>")
    };
    let expected = page(&in_html(&best(LINES[0])), &in_html(&best(LINES[4])));
    for source in ["en", "auto"] {
        let mut body = en_de(page(LINES[0], LINES[4]));
        body["source"] = json!(source);
        body["format"] = json!("html");
        body["alternatives"] = json!(2);
        let answer = server.translate("/translate?steps=4", body).await;
        assert_eq!(answer["translatedText"], expected);
        let warnings = answer["meta"]["warnings"].as_array().unwrap();
        assert!(warnings.contains(&json!("not_source_language")), "{warnings:?}");
        let others = answer["alternatives"].as_array().unwrap();
        assert!(!others.is_empty());
        for other in others {
            let other = other.as_str().unwrap();
            assert!(other.contains("<p>Здравствуйте, <b>мир</b>!</p>\n<p>Спасибо.</p>"), "{other}");
        }
    }
}

#[tokio::test]
async fn a_value_of_json_in_another_script_is_kept_and_the_others_are_translated() {
    let server = Server::start(Setup::default()).await;
    let file =
        |first: &str, last: &str| json!({ "a": first, "b": "Здравствуйте, мир", "c": ["Спасибо", last] });
    let form = multipart(&[("source", "en"), ("target", "de")]);
    let head = "POST /translate_file HTTP/1.1\nContent-Type: multipart/form-data; boundary=xYzZY";
    let content = file(LINES[0], LINES[4]);
    let part = "Content-Disposition: form-data; name=\"file\"; filename=\"a.json\"";
    let body = format!("--xYzZY\r\n{part}\r\n\r\n{content}\r\n{form}");
    let answer = replay_json(&server, head, body).await;
    let url = answer["translatedFileUrl"].as_str().unwrap();
    let translated = in_time(server.client.get(url).send()).await.unwrap().text().await.unwrap();
    assert_eq!(translated, file(&best(LINES[0]), &best(LINES[4])).to_string());
}
