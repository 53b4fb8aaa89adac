//! More requests than fit, and clients that disconnect.

use serde_json::Value;
use tokio::task::JoinSet;
use tutti::engine::Options;
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
