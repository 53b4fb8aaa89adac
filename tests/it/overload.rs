//! More requests than fit, fewer steps under load, and clients that disconnect.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tutti::engine::{DegradePolicy, Options};
use tutti::settings::HttpSettings;

use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de, in_time};

#[tokio::test]
async fn a_full_queue_is_a_429_and_nobody_who_was_accepted_is_lost() {
    let engine = Options { max_queue_items: 4, max_batch_rows: 3, ..Setup::default().engine };
    let server = Server::start(Setup { engine, ..Setup::default() }).await;
    server.gate.close();
    let mut requests = JoinSet::new();
    let mut send = |text: &'static str| {
        let request = server.post("/translate", &en_de(text));
        requests.spawn(async move {
            let response = request.send().await.unwrap();
            let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
            (text, response.status().as_u16(), wait, response.json::<Value>().await.unwrap())
        });
    };
    send(LINES[0]);
    // The beam of the first request fills the pass; the model thread takes no more while it is held.
    server.until_held().await;
    for i in 0..10 {
        send(LINES[i % LINES.len()]);
    }
    for _ in 0..6 {
        let (_, status, wait, answer) = in_time(requests.join_next()).await.unwrap().unwrap();
        assert_eq!(status, 429, "{answer}");
        assert!(wait.unwrap().parse::<u64>().unwrap() >= 1);
        assert!(answer["error"].as_str().unwrap().starts_with("Slowdown: "), "{answer}");
        assert_eq!(answer["code"], "queue_full");
    }
    // Probes are answered, however full the queue is.
    for path in ["/health", "/livez", "/readyz", "/metrics", "/info"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(server.metric("tutti_rejected_total", &[("reason", "queue_full")]).await, 6.0);

    server.gate.open();
    for _ in 0..5 {
        let (text, status, _, answer) = in_time(requests.join_next()).await.unwrap().unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["translatedText"], alone(text, 4, DEFAULT_BEAM));
    }
    assert!(requests.is_empty());
}

#[tokio::test]
async fn more_requests_than_may_be_in_progress_are_a_429() {
    let http = HttpSettings { max_concurrent_requests: 1, ..Setup::default().http };
    let server = Server::start(Setup { http, ..Setup::default() }).await;
    server.gate.close();
    let first = tokio::spawn(server.post("/translate", &en_de(LINES[0])).send());
    server.until_held().await;
    let second = in_time(server.post("/translate", &en_de(LINES[0])).send()).await.unwrap();
    assert_eq!(second.status(), 429);
    assert!(second.headers().contains_key("retry-after"));
    server.gate.open();
    assert_eq!(in_time(first).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_rows_before_its_steps_are_done() {
    let http = HttpSettings { max_concurrent_requests: 2, ..Setup::default().http };
    let server = Server::start(Setup { http, ..Setup::default() }).await;
    server.gate.close();
    let request = |beam: u8| {
        let query = [("steps", 20), ("length_beam", beam)];
        tokio::spawn(server.post("/translate", &en_de(LINES[2])).query(&query).send())
    };
    let leaving = request(3);
    server.until_held().await;
    let staying = request(2);
    server.until_in_engine(2.0).await;
    let step = async || {
        let gate = server.gate.clone();
        in_time(tokio::task::spawn_blocking(move || gate.step())).await.unwrap();
        server.counts.rows_by_pass().last().copied()
    };
    assert_eq!(step().await, Some(3));
    assert_eq!(step().await, Some(5), "both share a pass");

    leaving.abort();
    // Both places are taken until the server has noticed; then this is refused for its content.
    in_time(async { while server.post("/translate", &Value::Null).send().await.unwrap().status() == 429 {} })
        .await;
    // The pass at the gate was planned with both of them.
    step().await;
    assert_eq!(step().await, Some(2));
    server.gate.open();
    assert_eq!(in_time(staying).await.unwrap().unwrap().status(), 200);
    assert_eq!(server.metric("tutti_rejected_total", &[("reason", "cancelled")]).await, 1.0);
}

#[tokio::test]
async fn a_full_queue_is_a_429_for_clients_of_mtranserver_too() {
    let engine = Options { max_queue_items: 1, max_batch_rows: 3, ..Setup::default().engine };
    let server = Server::start(Setup { engine, ..Setup::default() }).await;
    server.gate.close();
    let running = tokio::spawn(server.post("/translate", &en_de(LINES[0])).send());
    server.until_held().await;
    let waiting = tokio::spawn(server.post("/translate", &en_de(LINES[4])).send());
    server.until_in_engine(2.0).await;
    let text = LINES[6];
    for (path, body) in [
        ("/translate", json!({ "from": "en", "to": "de", "text": text })),
        ("/translate/batch", json!({ "from": "en", "to": "de", "texts": [text] })),
        ("/imme", json!({ "source_lang": "en", "target_lang": "de", "text_list": [text] })),
        ("/kiss", json!({ "from": "en", "to": "de", "text": text })),
    ] {
        let response = in_time(server.post(path, &body).send()).await.unwrap();
        assert_eq!(response.status(), 429, "{path}");
        let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(wait >= 1, "{path}");
        let answer: Value = response.json().await.unwrap();
        assert!(answer["error"].as_str().unwrap().starts_with("Slowdown: "), "{path}: {answer}");
        assert_eq!(answer["code"], "queue_full", "{path}");
    }
    server.gate.open();
    for request in [running, waiting] {
        assert_eq!(in_time(request).await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn under_load_steps_are_lowered_as_far_as_a_request_allows_and_its_answer_says_so() {
    const CROWD: usize = 32;
    // It rises with any wait and never falls, so that only the number of its rises depends on the time.
    let policy = DegradePolicy { above: Duration::from_millis(1), below: Duration::ZERO };
    let engine = Options { max_batch_rows: 1, degrade: Some(policy), ..Setup::default().engine };
    // No deadline is near, however slow the machine is.
    let request_timeout = Duration::from_secs(3600);
    let http = HttpSettings { default_length_beam: 1, request_timeout, ..Setup::default().http };
    let server = Server::start(Setup { engine, http, ..Setup::default() }).await;
    let send = |query: &[(&str, u8)], texts: Value| {
        let request = server.post("/translate", &en_de(texts)).query(query);
        tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
    };
    server.gate.close();
    let crowd = send(&[("steps", 1)], vec![LINES[2]; CROWD].into());
    server.until_held().await;
    // Each of the waiting sentences is expected to take as long as this pass.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let gate = server.gate.clone();
    in_time(tokio::task::spawn_blocking(move || gate.step())).await.unwrap();

    let halved = send(&[("steps", 8), ("steps_min", 1)], LINES[2].into());
    // In place of the sentence that is done.
    server.until_in_engine(CROWD as f64).await;
    let limited = send(&[("steps", 8), ("steps_min", 6)], LINES[2].into());
    let exact = send(&[("steps", 8)], LINES[2].into());
    let usual = send(&[("length_beam", 1)], LINES[2].into());
    server.until_in_engine((CROWD + 3) as f64).await;
    server.gate.open();
    let steps = async |task: JoinHandle<Value>| in_time(task).await.unwrap()["meta"]["steps"].clone();
    assert_eq!(steps(halved).await, json!({ "requested": 8, "used": 4, "lowered": "load" }));
    assert_eq!(steps(limited).await, json!({ "requested": 8, "used": 6, "lowered": "load" }));
    assert_eq!(steps(exact).await, json!({ "requested": 8, "used": 8 }));
    let usual = steps(usual).await;
    assert_eq!((&usual["requested"], &usual["lowered"]), (&json!(4), &json!("load")), "{usual}");
    assert!((1..=2).contains(&usual["used"].as_u64().unwrap()), "{usual}");
    assert_eq!(server.metric("tutti_steps_lowered_total", &[("reason", "load")]).await, 3.0);
    let crowd = in_time(crowd).await.unwrap();
    assert_eq!(crowd["translatedText"].as_array().unwrap().len(), CROWD, "{crowd}");
}
