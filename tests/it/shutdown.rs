//! Orderly shutdown.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tutti::settings::HttpSettings;

use crate::support::{DEFAULT_BEAM, LINES, Server, Setup, alone, en_de, in_time, raw, read_answer};

#[tokio::test]
async fn everything_accepted_is_answered_before_the_server_ends() {
    let mut server = Server::start(Setup::default()).await;
    server.gate.close();
    let mut requests = JoinSet::new();
    for i in 0..40 {
        let (text, steps) = (LINES[i % LINES.len()], [1, 4, 10][i % 3]);
        let request = server.post("/translate", &en_de(text)).query(&[("steps", steps)]);
        requests.spawn(async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["connection"], "close");
            (text, steps, response.status().as_u16(), response.json::<Value>().await.unwrap())
        });
    }
    server.until_in_engine(40.0).await;
    server.shut_down();
    // New connections are refused.
    in_time(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    server.gate.open();
    while let Some(done) = in_time(requests.join_next()).await {
        let (text, steps, status, answer) = done.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["translatedText"], alone(text, steps, DEFAULT_BEAM));
    }
    server.ended().await.unwrap();
}

#[tokio::test]
async fn while_it_drains_readiness_says_no_and_answers_end_their_connections() {
    let http = HttpSettings { shutdown_delay: Duration::from_secs(3600), ..Setup::default().http };
    let mut server = Server::start(Setup { http, ..Setup::default() }).await;
    assert!(!server.get("/readyz").await.headers().contains_key("connection"));
    server.shut_down();
    in_time(async { while server.get("/readyz").await.status() == 200 {} }).await;
    let refused = server.get("/readyz").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["connection"], "close");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "draining");
    assert_eq!(server.get("/livez").await.status(), 200);
    assert_eq!(server.metric("tutti_ready", &[]).await, 0.0);
    // Load balancers need a moment to notice; requests that still arrive are served.
    let response = in_time(server.post("/translate", &en_de(LINES[0])).send()).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.json::<Value>().await.unwrap()["translatedText"], alone(LINES[0], 4, DEFAULT_BEAM));
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_end_for_ever() {
    let http = HttpSettings { drain_timeout: Duration::from_millis(50), ..Setup::default().http };
    let mut server = Server::start(Setup { http, ..Setup::default() }).await;
    server.gate.close();
    let stuck = tokio::spawn(server.post("/translate", &en_de(LINES[0])).send());
    server.until_held().await;
    server.shut_down();
    let begun = Instant::now();
    server.ended().await.unwrap();
    // The connection is cut after 50 ms; the engine, which is held, may use its last second.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(in_time(stuck).await.unwrap().is_err(), "its connection was cut");
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_hold_up_the_end() {
    let mut server = Server::start(Setup::default()).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    server.shut_down();
    server.ended().await.unwrap();
    drop(idle);
}

/// One thread runs the server and this test, so nothing of the server runs between two awaits: requests sent after
/// the signal are in the sockets before the server sees the signal.
#[tokio::test]
async fn what_was_sent_before_the_end_is_answered_on_warm_connections_and_on_new_ones() {
    const EACH: usize = 20;
    let mut server = Server::start(Setup::default()).await;
    let request = raw("POST", "/translate", &en_de(LINES[0]).to_string());
    let mut streams = Vec::new();
    for _ in 0..EACH {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        assert!(!read_answer(&mut stream).await.unwrap().says_close());
        streams.push(stream);
    }
    server.shut_down();
    for stream in &streams {
        assert_eq!(stream.try_write(&request).unwrap(), request.len());
    }
    for _ in 0..EACH {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(&request).unwrap();
        stream.set_nonblocking(true).unwrap();
        streams.push(TcpStream::from_std(stream).unwrap());
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let answer = read_answer(stream).await.unwrap_or_else(|| panic!("request {number} was lost"));
        assert_eq!((answer.status, answer.says_close()), (200, true), "request {number}: {}", answer.body);
    }
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_client_that_keeps_its_connection_is_told_to_leave_before_it_is_closed() {
    let mut server = Server::start(Setup::default()).await;
    let request = raw("POST", "/translate", &en_de(LINES[0]).to_string());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    assert!(!read_answer(&mut stream).await.unwrap().says_close());
    server.shut_down();
    // New connections are refused, and the old connection is still served.
    in_time(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    stream.write_all(&request).await.unwrap();
    assert!(read_answer(&mut stream).await.unwrap().says_close());
    server.ended().await.unwrap();
}
