//! Clients that send forms or queries: Discourse, Crow, Weblate, Nextcloud, LibreTranslate-sh, TWP, deep-translator.

use serde_json::json;

use super::{in_html, multipart, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn discourse_detects_and_then_translates_html_by_forms() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /detect HTTP/1.1\nUser-Agent: excon/1.2.5\n{FORM}");
    let answer = replay_json(&server, &head, "q=Where+is+the+train+station%3F&api_key=").await;
    assert_eq!(answer[0]["language"], "en");
    let head = format!("POST /translate HTTP/1.1\nUser-Agent: excon/1.2.5\n{FORM}");
    let body = "q=%3Cp%3EWhere+is+the+train+station%3F%3C%2Fp%3E&source=en&target=de&format=html&api_key=";
    let answer = replay_json(&server, &head, body).await;
    assert_eq!(answer, json!({ "translatedText": format!("<p>{}</p>", in_html(&best(LINES[0]))) }));
}

#[tokio::test]
async fn crow_detects_by_a_form_and_sends_an_empty_key() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /detect HTTP/1.1\n{FORM}");
    assert_eq!(
        replay_json(&server, &head, "&q=Thank%20you%20very%20much&api_key=").await[0]["language"],
        "en"
    );
    let head = format!("POST /translate HTTP/1.1\n{FORM}");
    let body = "&q=Thank%20you%20very%20much%20for%20your%20help.&source=en&target=de&api_key=";
    assert_eq!(replay_json(&server, &head, body).await["translatedText"], best(LINES[4]));
}

#[tokio::test]
async fn weblate_sends_forms_without_a_format_and_codes_with_regions() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\nUser-Agent: Weblate/5.8\nAccept: application/json\n{FORM}");
    let body = "source=en&target=de_AT&q=Where+is+the+train+station%3F&api_key=";
    assert_eq!(replay_json(&server, &head, body).await["translatedText"], best(LINES[0]));
}

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=xYzZY";

/// Its PHP client gives curl an array, empty or not, for every call: a multipart form, also with GET.
#[tokio::test]
async fn nextcloud_sends_a_multipart_form_with_everything_it_asks() {
    let server = Server::start(Setup::default()).await;
    let nothing = multipart(&[]);
    let head = |call: &str| format!("{call} HTTP/1.1\nAccept: */*\n{MULTIPART}");
    let settings = replay_json(&server, &head("GET /frontend/settings"), &nothing).await;
    assert_eq!(settings["language"]["target"]["code"], "de");
    assert_eq!(replay_json(&server, &head("GET /languages"), &nothing).await[0]["name"], "English");
    let detect = head("POST /detect?q=Thank+you+very+much&api_key=");
    assert_eq!(replay_json(&server, &detect, &nothing).await[0]["language"], "en");
    let fields = [("q", LINES[0]), ("format", "html"), ("source", "en"), ("target", "de"), ("api_key", "")];
    let answer = replay_json(&server, &head("POST /translate"), multipart(&fields)).await;
    assert_eq!(answer, json!({ "translatedText": in_html(&best(LINES[0])) }));
}

/// `curl -F`, and curl without a body.
#[tokio::test]
async fn libretranslate_sh_sends_what_curl_makes_of_it() {
    let server = Server::start(Setup::default()).await;
    let head = |path: &str| format!("POST {path} HTTP/1.1\nUser-Agent: curl/8.5.0\nAccept: */*\n{MULTIPART}");
    let fields = [("q", LINES[0]), ("source", "en"), ("target", "de")];
    let answer = replay_json(&server, &head("/translate"), multipart(&fields)).await;
    assert_eq!(answer, json!({ "translatedText": best(LINES[0]) }));
    let answer = replay_json(&server, &head("/detect"), multipart(&[("q", LINES[2])])).await;
    assert_eq!(answer[0]["language"], "en");
    let languages = "POST /languages HTTP/1.1\nUser-Agent: curl/8.5.0\nAccept: */*";
    assert_eq!(replay_json(&server, languages, "").await[0]["code"], "en");
}

#[tokio::test]
async fn libretranslates_own_page_sends_multipart_forms() {
    let server = Server::start(Setup::default()).await;
    let fields = [
        ("q", LINES[0]),
        ("source", "auto"),
        ("target", "de"),
        ("format", "text"),
        ("alternatives", "3"),
        ("api_key", ""),
    ];
    let head = format!("POST /translate HTTP/1.1\nUser-Agent: Mozilla/5.0\n{MULTIPART}");
    let answer = replay_json(&server, &head, multipart(&fields)).await;
    assert_eq!(answer["translatedText"], best(LINES[0]));
    assert_eq!(answer["detectedLanguage"]["language"], "en");
    assert_eq!(answer["alternatives"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn twp_reads_the_detected_language_of_auto() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\nOrigin: moz-extension://6f3aaa2\n{FORM}");
    let body = "q=She+has+never+been+there+before%2C+but+he+has.&source=auto&target=de&format=text&api_key=k";
    let answer = replay_json(&server, &head, body).await;
    assert_eq!(answer["detectedLanguage"]["language"], "en");
    assert_eq!(answer["translatedText"], best(LINES[6]));
}

#[tokio::test]
async fn deep_translator_puts_everything_into_the_query() {
    let server = Server::start(Setup::default()).await;
    let words = "Thank%20you%20very%20much%20for%20your%20help.%20".repeat(90);
    let head = format!("POST /translate?q={words}&source=en&target=de&format=text HTTP/1.1");
    let answer = replay_json(&server, &head, "").await;
    assert_eq!(answer["translatedText"].as_str().unwrap().trim(), vec![best(LINES[4]); 90].join(" "));
}

#[tokio::test]
async fn php_writes_arrays_with_brackets() {
    let server = Server::start(Setup::default()).await;
    let head = format!("POST /translate HTTP/1.1\n{FORM}");
    let body = "q%5B0%5D=Where+is+the+train+station%3F&q%5B1%5D=&source=en&target=de";
    assert_eq!(replay_json(&server, &head, body).await["translatedText"], json!([best(LINES[0]), ""]));
}
