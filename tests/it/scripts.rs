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

/// Translates a file from this source language.
async fn translated_file(server: &Server, name: &str, content: &str) -> String {
    let form = multipart(&[("source", "en"), ("target", "de")]);
    let head = "POST /translate_file HTTP/1.1\nContent-Type: multipart/form-data; boundary=xYzZY";
    let part = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
    let body = format!("--xYzZY\r\n{part}\r\n\r\n{content}\r\n{form}");
    let answer = replay_json(server, head, body).await;
    let url = answer["translatedFileUrl"].as_str().unwrap();
    in_time(server.client.get(url).send()).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_value_of_json_in_another_script_is_kept_and_the_others_are_translated() {
    let server = Server::start(Setup::default()).await;
    let file =
        |first: &str, last: &str| json!({ "a": first, "b": "Здравствуйте, мир", "c": ["Спасибо", last] });
    let content = file(LINES[0], LINES[4]).to_string();
    let expected = file(&best(LINES[0]), &best(LINES[4])).to_string();
    assert_eq!(translated_file(&server, "a.json", &content).await, expected);
}

#[tokio::test]
async fn an_entry_of_a_catalog_in_another_script_stays_untranslated() {
    let server = Server::start(Setup::default()).await;
    let po = |translation: &str| {
        let entry = |id: &str, translation: &str| format!("msgid {id}\nmsgstr {translation}\n");
        let kept = entry("\"Здравствуйте, мир\"", "\"\"\n\"\"");
        let other = entry(&json!(LINES[0]).to_string(), &json!(translation).to_string());
        format!("{kept}\n{other}")
    };
    assert_eq!(translated_file(&server, "a.po", &po("")).await, po(&best(LINES[0])));

    let xliff = |target: &str| {
        let unit = |source: &str, target: &str| {
            format!("<trans-unit id=\"1\"><source>{source}</source>{target}</trans-unit>")
        };
        let kept = [unit("Здравствуйте", ""), unit("<g id=\"1\">Спасибо</g>", "<target/>")].concat();
        let other = unit(LINES[0], target);
        format!("<xliff version=\"1.2\"><file><body>{kept}{other}</body></file></xliff>")
    };
    let expected = xliff(&format!("<target>{}</target>", in_html(&best(LINES[0]))));
    assert_eq!(translated_file(&server, "a.xlf", &xliff("")).await, expected);
}

#[tokio::test]
async fn a_kept_block_of_html_is_copied_byte_for_byte() {
    let server = Server::start(Setup::default()).await;
    let page =
        |text: &str| format!("<p>Здравствуйте &mdash;\n  <b>мир</b>&nbsp;и &quot;все&quot;</p><p>{text}</p>");
    let mut body = en_de(page(LINES[0]));
    body["format"] = json!("html");
    let answer = server.translate("/translate?steps=4", body).await;
    assert_eq!(answer["translatedText"], page(&in_html(&best(LINES[0]))));
}

#[tokio::test]
async fn auto_does_not_decide_over_a_few_words_beside_much_text_in_another_script() {
    let server = Server::start(Setup::default()).await;
    let german = "Das Wetter ist heute schön, und wir gehen spazieren.";
    let translate = async |russian: &str| {
        let page = format!("<p>{russian}</p><p>{german}</p>");
        let body = json!({ "q": page, "source": "auto", "target": "de", "format": "html", "steps": 4 });
        (server.translate("/translate", body).await, page)
    };
    let (answer, page) = translate("Привет, мир").await;
    assert_eq!(answer["detectedLanguage"]["language"], "de");
    assert_eq!(answer["translatedText"], page);

    let russian = "Сегодня хорошая погода, и мы идём гулять со всеми нашими друзьями по городу.";
    let (answer, _) = translate(russian).await;
    assert_eq!(answer["detectedLanguage"], json!({ "confidence": 0.0, "language": "en" }));
    let expected = format!("<p>{russian}</p><p>{}</p>", in_html(&best(german)));
    assert_eq!(answer["translatedText"], expected);
}
