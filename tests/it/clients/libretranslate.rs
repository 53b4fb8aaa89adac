//! What LibreTranslate's own tests assert of its API, and what its page and apps ask for.

use serde_json::{Value, json};

use super::{in_html, multipart, replay, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de, in_time};

const JSON: &str = "Content-Type: application/json";

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn detection_answers_a_list_and_needs_a_text() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /detect HTTP/1.1\n{JSON}");
    for (text, language) in [
        ("Hello, how are you doing today?", "en"),
        ("Guten Tag, wie geht es Ihnen heute?", "de"),
        ("Bonjour, comment allez-vous aujourd'hui ?", "fr"),
    ] {
        let answer = replay_json(&server, &head, json!({ "q": text }).to_string()).await;
        assert_eq!(answer[0]["language"], language, "{answer}");
        let confidence = answer[0]["confidence"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&confidence));
    }
    // No letters, and letters of no language that is known: LibreTranslate's answer, too.
    for text in ["12 + 30", "Здравствуйте, мир"] {
        let answer = replay_json(&server, &head, json!({ "q": text }).to_string()).await;
        assert_eq!(answer, json!([{ "confidence": 0.0, "language": "en" }]), "{text}");
    }
    for body in ["", "{}", "{\"q\":\"\"}"] {
        assert_eq!(replay(&server, &head, body.as_bytes()).await.0, 400);
    }
    assert_eq!(replay(&server, "GET /detect HTTP/1.1", b"").await.0, 405);
}

#[tokio::test]
async fn a_text_that_is_not_in_the_source_language_comes_back_with_a_warning() {
    let server = Server::start(Setup::default()).await;
    let german = "Das Wetter ist heute schön, und wir gehen spazieren.";
    let body =
        json!({ "q": [german, LINES[0], "Здравствуйте, мир"], "source": "auto", "target": "de", "steps": 4 });
    let answer = server.translate("/translate", body).await;
    assert_eq!(answer["translatedText"], json!([german, best(LINES[0]), "Здравствуйте, мир"]));
    assert_eq!(answer["detectedLanguage"][0]["language"], "de");
    assert_eq!(answer["detectedLanguage"][1]["language"], "en");
    assert_eq!(answer["detectedLanguage"][2], json!({ "confidence": 0.0, "language": "en" }));
    let warned = json!(["not_source_language"]);
    assert_eq!(answer["meta"]["warnings"], json!([warned, [], warned]));

    // Another script is seen without detection.
    let answer = server.translate("/translate?steps=4", en_de("Здравствуйте, мир")).await;
    assert_eq!(answer["translatedText"], "Здравствуйте, мир");
    assert_eq!(answer["meta"]["warnings"], warned);
}

#[tokio::test]
async fn texts_in_other_languages_are_translated_where_the_operator_says_so() {
    let mut setup = Setup::default();
    setup.http.keep_other_languages = false;
    let server = Server::start(setup).await;
    let german = "Das Wetter ist heute schön, und wir gehen spazieren.";
    let answer = server
        .translate("/translate", json!({ "q": german, "source": "auto", "target": "de", "steps": 4 }))
        .await;
    assert_eq!(answer["translatedText"], best(german));
    assert_eq!(answer["meta"]["warnings"], json!(["not_source_language"]));
}

#[tokio::test]
async fn empty_items_come_back_empty() {
    let server = Server::start(Setup::default()).await;
    let answer = server.translate("/translate", en_de(json!(["", ""]))).await;
    assert_eq!(answer, json!({ "translatedText": ["", ""] }));
}

#[tokio::test]
async fn the_page_finds_its_settings_and_suggestions_are_off() {
    let server = Server::start(Setup::default()).await;
    let settings = replay_json(&server, "GET /frontend/settings HTTP/1.1", "").await;
    assert_eq!(settings["language"]["target"], json!({ "code": "de", "name": "German" }));
    for key in ["apiKeys", "charLimit", "filesTranslation", "frontendTimeout", "keyRequired", "suggestions"] {
        assert!(!settings[key].is_null(), "{key}");
    }
    assert!(settings["supportedFilesFormat"].as_array().unwrap().contains(&json!(".srt")));
    let (status, _, body) = replay(&server, "POST /suggest HTTP/1.1", b"").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["error"]), (403, &json!("Suggestions are disabled on this server.")));
}

/// The body of an upload of a file.
fn upload(name: &str, content: &str) -> String {
    let form = multipart(&[("source", "en"), ("target", "de"), ("api_key", "")]);
    let file = format!(
        "--xYzZY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n{content}\r\n"
    );
    file + &form
}

#[tokio::test]
async fn files_are_translated_and_fetched() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate_file HTTP/1.1\nContent-Type: multipart/form-data; boundary=xYzZY";
    let (line, translated) = (LINES[0], best(LINES[0]));
    for (name, content, expected) in [
        ("a.txt", format!("{line}\n"), format!("{translated}\n")),
        ("a.html", format!("<p>{line}</p>"), format!("<p>{}</p>", in_html(&translated))),
        ("a.MD", format!("# {line}\n"), format!("# {translated}\n")),
        (
            "a.srt",
            format!("1\n00:00:01,000 --> 00:00:02,000\n{line}\n"),
            format!("1\n00:00:01,000 --> 00:00:02,000\n{translated}\n"),
        ),
        ("a.json", json!({ "k": line }).to_string(), json!({ "k": translated }).to_string()),
        (
            "a.po",
            format!("msgid \"{line}\"\nmsgstr \"\"\n"),
            format!(
                "msgid \"{line}\"\nmsgstr \"{}\"\n",
                translated.replace('\\', "\\\\").replace('"', "\\\"")
            ),
        ),
    ] {
        let answer = replay_json(&server, head, upload(name, &content)).await;
        let url = answer["translatedFileUrl"].as_str().unwrap();
        let response = in_time(server.client.get(url).send()).await.unwrap();
        assert_eq!(response.status(), 200);
        let disposition = response.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert_eq!(disposition, format!("attachment; filename=\"{name}\""));
        assert_eq!(response.text().await.unwrap(), expected);
    }
    for (name, content, words) in [
        ("a.docx", "x", "file format not supported"),
        ("a.json", "{", "not valid JSON"),
        ("a.xlf", "<a></b>", "not well-formed"),
        ("a.txt", "", "empty file"),
    ] {
        let (status, _, body) = replay(&server, head, upload(name, content).as_bytes()).await;
        let body = String::from_utf8(body).unwrap();
        assert!(status == 400 && body.contains(words), "{name}: {status} {body}");
    }
    assert_eq!(replay(&server, "GET /download_file/nothing HTTP/1.1", b"").await.0, 404);
}

#[tokio::test]
async fn a_prefix_is_before_every_path_and_probes_answer_without_it_too() {
    let mut setup = Setup::default();
    setup.http.url_prefix = "/translator".into();
    let server = Server::start(setup).await;
    let answer = server.translate("/translator/translate", en_de(LINES[0])).await;
    assert_eq!(answer["translatedText"], best(LINES[0]));
    assert_eq!(server.get("/translator/languages/").await.status(), 200);
    assert_eq!(server.get("/translator/livez").await.status(), 200);
    assert_eq!(server.get("/languages").await.status(), 404);
    assert!(
        server.metric("tutti_http_requests_total", &[("route", "/translate"), ("code", "200")]).await > 0.0
    );
}

#[tokio::test]
async fn a_large_page_of_html_is_translated_within_its_time() {
    let server = Server::start(Setup::default()).await;
    // Below the default limit of characters, which counts what is translated.
    let item = format!(
        "<li class=\"entry odd\" data-id=\"12345\"><a href=\"https://a.example/a/b?c=d&amp;e=f\">{}</a><script>if (a < b) track('entry', 12345, {{ padding: '{}' }});</script></li>\n",
        LINES[0],
        "x".repeat(200)
    );
    let page =
        format!("<!doctype html><html><body><ul>{}</ul></body></html>", item.repeat(1_000_000 / item.len()));
    assert!(page.len() > 990_000);
    let mut body = en_de(page.clone());
    body["format"] = json!("html");
    let answer = server.translate("/translate?steps=1", body).await;
    let expected = page.replace(LINES[0], &in_html(&alone(LINES[0], 1, DEFAULT_BEAM)));
    assert!(answer["translatedText"] == expected, "the page is not what it should be");
}

#[tokio::test]
async fn the_description_names_every_path_and_the_page_about_it_is_whole() {
    let server = Server::start(Setup::default()).await;
    let spec = replay_json(&server, "GET /spec HTTP/1.1", "").await;
    assert!(spec["openapi"].as_str().unwrap().starts_with("3.1"), "{}", spec["openapi"]);
    let paths: Vec<&String> = spec["paths"].as_object().unwrap().keys().collect();
    for route in tutti::http::ROUTES {
        let about_itself =
            ["/", "/page/{file}", "/spec", "/openapi.json", "/docs", "/docs/{*file}"].contains(&route);
        let known = about_itself || route.starts_with("/__") || paths.iter().any(|path| *path == route);
        assert!(known, "{route} is not described");
    }
    let needs_a_key = |path: &str| spec["paths"][path]["post"]["responses"]["401"].is_object();
    assert!(needs_a_key("/translate") && needs_a_key("/imme") && !needs_a_key("/v2/translate"), "{spec}");
    assert_eq!(replay(&server, "POST /spec HTTP/1.1", b"").await.0, 405);

    let page = in_time(server.client.get(server.url("/docs")).send()).await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/docs/index.html"));
    let html = page.text().await.unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    for file in html.split(['"', '\'']).filter_map(|part| part.strip_prefix("./")) {
        assert_eq!(server.get(&format!("/docs/{file}")).await.status(), 200, "{file}");
    }
    let script = server.get("/docs/swagger-initializer.js").await.text().await.unwrap();
    assert!(script.contains("../openapi.json") && script.contains("\"none\""), "{script}");
    assert_eq!(server.get("/docs/nothing").await.status(), 404);
}
