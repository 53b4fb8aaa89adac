//! Successful requests.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de, in_time};

const TEXT: &str = "Where is the train station? Thank you very much.";

#[tokio::test]
async fn a_plain_request_gets_a_plain_libretranslate_answer() {
    let server = Server::start(Setup::default()).await;
    let answer = server.translate("/translate", en_de(TEXT)).await;
    assert_eq!(answer, json!({ "translatedText": alone(TEXT, 4, DEFAULT_BEAM) }));
    assert_ne!(alone(TEXT, 4, DEFAULT_BEAM), TEXT);
}

#[tokio::test]
async fn an_array_is_answered_by_an_array_of_the_same_length() {
    let server = Server::start(Setup::default()).await;
    let answer = server.translate("/translate", en_de(json!([LINES[0], "", " \n", LINES[4]]))).await;
    let expected = json!([alone(LINES[0], 4, DEFAULT_BEAM), "", " \n", alone(LINES[4], 4, DEFAULT_BEAM)]);
    assert_eq!(answer, json!({ "translatedText": expected }));
    let one = server.translate("/translate", en_de(json!([LINES[0]]))).await;
    assert_eq!(one["translatedText"], json!([alone(LINES[0], 4, DEFAULT_BEAM)]));
}

#[tokio::test]
async fn texts_without_words_come_back_as_they_are() {
    let server = Server::start(Setup::default()).await;
    for text in [" ", "\n\n", "…", "?!", " - \t-"] {
        assert_eq!(server.translate("/translate", en_de(text)).await, json!({ "translatedText": text }));
    }
}

#[tokio::test]
async fn white_space_and_line_breaks_around_sentences_stay() {
    let server = Server::start(Setup::default()).await;
    let text = format!("  {}\r\n\n\t{}  {}\n", LINES[0], LINES[2], LINES[4]);
    let one = |line| alone(line, 4, DEFAULT_BEAM);
    let expected = format!("  {}\r\n\n\t{}  {}\n", one(LINES[0]), one(LINES[2]), one(LINES[4]));
    assert_eq!(server.translate("/translate", en_de(text)).await["translatedText"], expected);
}

#[tokio::test]
async fn wrapped_lines_are_joined_where_a_request_asks_for_it() {
    let server = Server::start(Setup::default()).await;
    let wrapped = "The weather is nice today, and we all go to\nthe train station.";
    let apart = server.translate("/translate", en_de(wrapped)).await;
    assert!(apart["translatedText"].as_str().unwrap().contains('\n') && apart["meta"].is_null(), "{apart}");
    let joined = server.translate("/translate?join_lines=true", en_de(wrapped)).await;
    assert_eq!(joined["translatedText"], alone(&wrapped.replace('\n', " "), 4, DEFAULT_BEAM));
    assert!(joined["meta"].is_object(), "{joined}");
    let refused =
        in_time(server.post("/translate?join_lines=perhaps", &en_de(wrapped)).send()).await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("join_lines"));
}

/// One item that is long, one that is cut, one that goes in pieces: each is answered, and what was done is counted.
#[tokio::test]
async fn odd_items_of_an_array_are_answered_like_the_others_and_counted() {
    let server = Server::start(Setup::default()).await;
    let url = format!("https://tutti.example/{}", "a".repeat(9000));
    let texts = json!([LINES[0], url, "字".repeat(2000), "Hello {name}, where is the train station?", ""]);
    let answer = server.translate("/translate?steps=1", en_de(texts)).await;
    let translated: Vec<&str> =
        answer["translatedText"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert_eq!(translated[0], alone(LINES[0], 1, DEFAULT_BEAM));
    assert_eq!((translated[1], translated[4]), (url.as_str(), ""));
    assert!(!translated[2].is_empty() && translated[3].matches("{name}").count() == 1, "{}", translated[3]);
    let warnings = answer["meta"]["warnings"].as_array().unwrap();
    assert!(warnings[3].as_array().unwrap().contains(&json!("split")), "{answer}");
    assert!(server.metric("tutti_text_repairs_total", &[("kind", "split")]).await >= 1.0);
}

#[tokio::test]
async fn the_query_beats_the_body() {
    let server = Server::start(Setup::default()).await;
    let mut body = en_de(TEXT);
    body["steps"] = json!(9);
    body["length_beam"] = json!(3);
    let answer = server.translate("/translate?steps=1&length_beam=2", body).await;
    assert_eq!(answer["translatedText"], alone(TEXT, 1, 2));
    assert_eq!(answer["meta"]["steps"], json!({ "requested": 1, "used": 1 }));
    assert_eq!(answer["meta"]["length_beam"], 2);
    assert_eq!(answer["meta"]["model"], "tiny");
}

#[tokio::test]
async fn forms_and_queries_carry_the_same_parameters_as_json() {
    let server = Server::start(Setup::default()).await;
    let expected = alone(LINES[6], 4, DEFAULT_BEAM);
    let form = "source=en&target=de&q=She+has+never+been+there+before%2C+but+he+has.&api_key=x";
    let request = server.client.post(server.url("/translate")).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer: Value = in_time(request.send()).await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({ "translatedText": expected }));
    let answer: Value = in_time(server.client.post(server.url(&format!("/translate?{form}"))).send())
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer, json!({ "translatedText": expected }));
}

#[tokio::test]
async fn codes_come_in_any_case_and_unknown_fields_are_left_alone() {
    let server = Server::start(Setup::default()).await;
    let body = json!({ "q": LINES[0], "source": "EN", "target": "De", "format": "text", "api_key": "", "colour": 7 });
    assert_eq!(
        server.translate("/translate", body).await["translatedText"],
        alone(LINES[0], 4, DEFAULT_BEAM)
    );
}

#[tokio::test]
async fn alternatives_are_other_translations_than_the_best() {
    let server = Server::start(Setup::default()).await;
    let mut body = en_de(LINES[0]);
    body["alternatives"] = json!(3);
    let answer = server.translate("/translate", body.clone()).await;
    assert_eq!(answer["translatedText"], alone(LINES[0], 4, DEFAULT_BEAM));
    let mut all: Vec<&str> =
        answer["alternatives"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    assert_eq!(all.len(), 3);
    all.push(answer["translatedText"].as_str().unwrap());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "{answer}");
    assert!(answer.get("meta").is_none(), "alternatives are LibreTranslate's own");

    body["q"] = json!([LINES[0], LINES[2]]);
    let answer = server.translate("/translate", body).await;
    assert_eq!(answer["alternatives"].as_array().unwrap().len(), 2);
    assert_eq!(answer["alternatives"][1].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn scores_and_trace_come_for_each_sentence_when_asked() {
    let server = Server::start(Setup::default()).await;
    let answer = server.translate("/translate?scores=true&trace=1&steps=3", en_de(TEXT)).await;
    let sentences = answer["meta"]["sentences"].as_array().unwrap();
    assert_eq!(sentences.len(), 2);
    for sentence in sentences {
        let trace = sentence["trace"].as_array().unwrap();
        assert_eq!(trace.len(), 3);
        assert_eq!(sentence["steps_used"], 3);
        let tokens = sentence["scores"]["tokens"].as_array().unwrap();
        let probability = |token: &Value| token["probability"].as_f64().unwrap();
        assert!(!tokens.is_empty() && tokens.iter().all(|t| (0.0..=1.0).contains(&probability(t))));
        let spelt: String = tokens.iter().map(|token| token["text"].as_str().unwrap()).collect();
        assert!(!spelt.is_empty());
        assert!((0.0..=1.0).contains(&probability(&sentence["scores"])));
    }
    let whole = answer["translatedText"].as_str().unwrap();
    for sentence in sentences {
        // The final mark is the source's.
        let words = sentence["text"].as_str().unwrap().trim_end_matches(['.', '!', '?']);
        assert!(whole.contains(words), "{words:?} is not in {whole:?}");
    }
}

#[tokio::test]
async fn every_answer_tells_where_its_time_went_and_carries_an_id() {
    let server = Server::start(Setup::default()).await;
    let request = server.post("/translate", &en_de(TEXT)).header("x-request-id", "mine");
    let response = in_time(request.send()).await.unwrap();
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("x-request-id").as_deref(), Some("mine"));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    let timing = header("server-timing").unwrap();
    let stages: Vec<&str> = timing.split(", ").map(|entry| entry.split_once(";dur=").unwrap().0).collect();
    assert_eq!(stages, ["tokenize", "queue", "encode", "decode", "detokenize", "total"]);
    let mut times: Vec<f64> =
        timing.split(", ").map(|entry| entry.split_once(";dur=").unwrap().1.parse().unwrap()).collect();
    // Each is truncated to microseconds.
    let total = times.pop().unwrap();
    assert!(times.iter().sum::<f64>() <= total + 0.001, "{timing}");
    assert!(server.get("/health").await.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn browsers_may_send_json_and_authorization_from_anywhere() {
    let server = Server::start(Setup::default()).await;
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, server.url("/translate"))
        .header("origin", "https://example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-api-token");
    let response = in_time(preflight.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap().to_ascii_lowercase();
    for name in ["authorization", "content-type", "x-api-token"] {
        assert!(allowed.split(',').any(|each| each.trim() == name), "{name}: {allowed}");
    }
}

#[tokio::test]
async fn the_small_routes_say_what_they_should() {
    let server = Server::start(Setup::default()).await;
    let health = server.get("/health").await;
    assert_eq!(health.headers()["content-type"], "application/json");
    assert_eq!(health.text().await.unwrap(), r#"{"status":"ok"}"#);
    let languages: Value = server.get("/languages").await.json().await.unwrap();
    let english = json!({ "code": "en", "name": "English", "targets": ["de"] });
    assert_eq!(languages, json!([english, { "code": "de", "name": "German", "targets": [] }]));
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(server.get(probe).await.status(), 200, "{probe}");
    }
    let info: Value = server.get("/info").await.json().await.unwrap();
    let model = &info["models"][0];
    assert_eq!((&model["name"], &model["checksum"]), (&json!("tiny"), &json!("c0ffee")));
    assert_eq!((&model["default_steps"], &model["max_steps"]), (&json!(4), &json!(20)));
    assert_eq!(model["scores"], json!([{ "steps": 4, "bleu": 20.5, "chrf": 50.25 }]));
    assert_eq!(model["max_source_tokens"], 128);
}

#[tokio::test]
async fn metrics_parse_and_move_with_the_work() {
    let server = Server::start(Setup::default()).await;
    let route = [("route", "/translate"), ("code", "200")];
    let model = [("model", "tiny")];
    let moving = [
        "tutti_queue_wait_seconds",
        "tutti_tokenize_seconds",
        "tutti_batch_rows",
        "tutti_steps_used",
        "tutti_decode_pass_seconds",
    ];
    let mut before = Vec::new();
    for name in moving {
        before.push(server.metric(name, &model).await);
    }
    let real = [("side", "target"), ("kind", "real")];
    let tokens = server.metric("tutti_tokens_total", &real).await;
    assert_eq!(server.metric("tutti_http_requests_total", &route).await, 0.0);

    server.translate("/translate?steps=2", en_de(TEXT)).await;

    assert_eq!(server.metric("tutti_http_requests_total", &route).await, 1.0);
    let timed = [("route", "/translate")];
    assert_eq!(server.metric("tutti_http_request_duration_seconds", &timed).await, 1.0);
    for (name, before) in moving.into_iter().zip(before) {
        assert!(server.metric(name, &model).await > before, "{name} stands still");
    }
    assert!(server.metric("tutti_tokens_total", &real).await > tokens);
    assert_eq!(server.metric("tutti_ready", &[]).await, 1.0);
    assert_eq!(server.metric("tutti_model_info", &[("checksum", "c0ffee"), ("device", "cpu")]).await, 1.0);
    for gauge in ["tutti_queue_depth", "tutti_running_items", "tutti_tokenizing_items"] {
        assert_eq!(server.metric(gauge, &model).await, 0.0, "{gauge} has drifted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_mixed_requests_at_once_get_what_each_gets_alone() {
    let server = Server::start(Setup::default()).await;
    let mut requests = JoinSet::new();
    for i in 0..200 {
        let text = match i % 5 {
            0 => LINES.join(" "),
            k => format!("{} {}", &LINES[(i / 5) % LINES.len()], &LINES[k][..k * 3]),
        };
        let steps = [1, 2, 4, 10][i % 4];
        let request = server.post("/translate", &en_de(text.as_str())).query(&[("steps", steps)]);
        requests.spawn(async move {
            let response = request.send().await.unwrap();
            let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
            (text, steps, status, answer)
        });
    }
    while let Some(done) = in_time(requests.join_next()).await {
        let (text, steps, status, answer) = done.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["translatedText"], alone(&text, steps, DEFAULT_BEAM), "{text:?} in {steps} steps");
    }
    assert!(server.counts.rows_by_pass().iter().any(|&rows| rows > 5), "nothing was ever batched");
}
