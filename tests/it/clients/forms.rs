//! Clients that send forms or queries: Discourse, Crow, Weblate, Nextcloud, LibreTranslate-sh,
//! deep-translator.

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
    let answer = replay_json(&server, &head, "q=Where+is+the+train+station%3F").await;
    assert_eq!(answer[0]["language"], "en");
    let head = format!("POST /translate HTTP/1.1\nUser-Agent: excon/1.2.5\n{FORM}");
    let body = "q=%3Cp%3EWhere+is+the+train+station%3F%3C%2Fp%3E&source=en&target=de&format=html";
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

#[tokio::test]
async fn nextcloud_and_libretranslate_sh_and_the_page_send_multipart_forms() {
    let server = Server::start(Setup::default()).await;
    let fields = [("q", LINES[0]), ("source", "auto"), ("target", "de"), ("format", "text"), ("api_key", "")];
    let boundary = "Content-Type: multipart/form-data; boundary=xYzZY";
    for agent in ["nextcloud", "curl/8.5.0", "Mozilla/5.0"] {
        let head = format!("POST /translate HTTP/1.1\nUser-Agent: {agent}\n{boundary}");
        let answer = replay_json(&server, &head, multipart(&fields)).await;
        assert_eq!(answer["translatedText"], best(LINES[0]));
        assert_eq!(answer["detectedLanguage"]["language"], "en");
    }
    let head = format!("POST /detect HTTP/1.1\n{boundary}");
    assert_eq!(replay_json(&server, &head, multipart(&[("q", LINES[2])])).await[0]["language"], "en");
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
