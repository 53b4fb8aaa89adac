//! Clients that send JSON: Mastodon, Pleroma, n8n, SearXNG, Subtitle Edit, npm's libretranslate.

use serde_json::json;

use super::{in_html, replay_json};
use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone};

fn best(line: &str) -> String {
    alone(line, 4, DEFAULT_BEAM)
}

#[tokio::test]
async fn mastodon_sends_an_array_of_html_and_wants_a_language_for_each() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate HTTP/1.1\nUser-Agent: http.rb/5.2.0 (Mastodon/4.3.0; +https://social.example/)\nContent-Type: application/json";
    let body = r#"{"q":["<p>Where is the train station? <a href=\"https://a.example/tags/x\">Thank you very much for your help.</a></p>",""],"source":"auto","target":"de","format":"html","api_key":null}"#;
    let answer = replay_json(&server, head, body).await;
    let expected = format!(
        "<p>{} <a href=\"https://a.example/tags/x\">{}</a></p>",
        in_html(&best(LINES[0])),
        in_html(&best(LINES[4]))
    );
    assert_eq!(answer["translatedText"], json!([expected, ""]));
    assert_eq!(answer["detectedLanguage"].as_array().unwrap().len(), 2);
    assert_eq!(answer["detectedLanguage"][0]["language"], "en");

    // Versions before 4.2 send one text.
    let body = r#"{"q":"<p>Where is the train station?</p>","source":"en","target":"de","format":"html","api_key":"key"}"#;
    let answer = replay_json(&server, &head.replace("4.3.0", "4.1.0"), body).await;
    assert_eq!(answer, json!({ "translatedText": format!("<p>{}</p>", in_html(&best(LINES[0]))) }));
}

#[tokio::test]
async fn pleroma_sends_codes_in_capitals() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate HTTP/1.1\nContent-Type: application/json\nUser-Agent: Pleroma 2.7.0";
    let body = r#"{"api_key":"key","format":"html","q":"Where is the train station?<br/>","source":"EN","target":"de"}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer, json!({ "translatedText": format!("{}<br/>", in_html(&best(LINES[0]))) }));
}

#[tokio::test]
async fn n8n_and_npm_libretranslate_say_auto_where_nobody_says_a_language() {
    let server = Server::start(Setup::default()).await;
    let head = "GET /languages HTTP/1.1\nAccept: application/json\nUser-Agent: n8n";
    assert_eq!(replay_json(&server, head, "").await[1]["code"], "de");
    let head =
        "POST /translate HTTP/1.1\nAccept: application/json\nContent-Type: application/json\nUser-Agent: n8n";
    let body = r#"{"q":"The weather is nice today, and we are going for a walk.","source":"auto","target":"de","format":"text"}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer["translatedText"], best(LINES[2]));
    assert_eq!(answer["detectedLanguage"]["language"], "en");
    assert!(answer["detectedLanguage"]["confidence"].as_f64().unwrap() > 50.0, "{answer}");
}

#[tokio::test]
async fn searxng_wants_three_alternatives() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate HTTP/1.1\nuser-agent: Mozilla/5.0\naccept-encoding: gzip, deflate\nContent-Type: application/json";
    let body = r#"{"q": "Where is the train station?", "source": "en", "target": "de", "alternatives": 3}"#;
    let answer = replay_json(&server, head, body).await;
    assert_eq!(answer["translatedText"], best(LINES[0]));
    let examples = answer["alternatives"].as_array().unwrap();
    assert!(examples.len() == 3 && examples.iter().all(|text| text.is_string()), "{answer}");
}

#[tokio::test]
async fn subtitle_edit_sends_lines_and_italics_as_tags_in_a_text() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate HTTP/1.1\naccept: application/json\nContent-Type: application/json";
    let body = r#"{"q": "Where is the train station?<br />\u003ci>Thank you very much for your help.</i>", "source": "en", "target": "de"}"#;
    let answer = replay_json(&server, head, body).await;
    let text = answer["translatedText"].as_str().unwrap();
    assert_eq!(text, best(&format!("{}<br /><i>{}</i>", LINES[0], LINES[4])));
    for tag in ["<br />", "<i>", "</i>"] {
        assert_eq!(text.matches(tag).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn dot_net_clients_may_begin_json_with_a_byte_order_mark() {
    let server = Server::start(Setup::default()).await;
    let head = "POST /translate HTTP/1.1\nContent-Type: application/json; charset=utf-8";
    let body = json!({ "q": format!("{}\n{}", LINES[0], LINES[4]), "source": "en", "target": "de" });
    let marked = [b"\xEF\xBB\xBF".as_slice(), body.to_string().as_bytes()].concat();
    let answer = replay_json(&server, head, marked).await;
    assert_eq!(answer["translatedText"], format!("{}\n{}", best(LINES[0]), best(LINES[4])));
}

#[tokio::test]
async fn json_is_read_whatever_it_is_called() {
    let server = Server::start(Setup::default()).await;
    let body = json!({ "q": LINES[0], "source": "en-US", "target": "de_AT" }).to_string();
    for label in [
        "",
        "\nContent-Type: text/plain;charset=UTF-8",
        "\nContent-Type: application/x-www-form-urlencoded",
        "\nContent-Type: application/vnd.api+json",
        "\nContent-Type: text/json",
    ] {
        let head = format!("POST /translate/ HTTP/1.1{label}");
        assert_eq!(replay_json(&server, &head, &body).await["translatedText"], best(LINES[0]), "{label}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    let server = Server::start(Setup::default()).await;
    let body = json!({ "q": LINES[0], "source": "eng", "target": "deu" }).to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body.as_bytes()).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(body.as_bytes()).unwrap();
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
    bare.write_all(body.as_bytes()).unwrap();
    for (encoding, bytes) in [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", bare.finish().unwrap()),
    ] {
        let head =
            format!("POST /translate HTTP/1.1\nContent-Type: application/json\nContent-Encoding: {encoding}");
        assert_eq!(replay_json(&server, &head, &bytes).await["translatedText"], best(LINES[0]));
    }
    let head = "POST /translate HTTP/1.1\nContent-Type: application/json\nContent-Encoding: br";
    assert_eq!(super::replay(&server, head, b"x").await.0, 415);
    let head = "POST /translate HTTP/1.1\nContent-Type: application/json\nContent-Encoding: gzip";
    assert_eq!(super::replay(&server, head, b"no gzip").await.0, 400);
}

#[tokio::test]
async fn a_small_body_that_becomes_a_large_one_is_refused() {
    use std::io::Write;
    let server = Server::start(Setup::default()).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 64 << 20]).unwrap();
    let head = "POST /translate HTTP/1.1\nContent-Type: application/json\nContent-Encoding: gzip";
    assert_eq!(super::replay(&server, head, &gzip.finish().unwrap()).await.0, 413);
}
