//! Behaviour on the socket: bodies that are not read, slow clients, too many connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tutti::settings::HttpSettings;

use crate::support::{LINES, RawAnswer, Server, Setup, en_de, in_time, raw, read_answer};

fn http(change: impl FnOnce(&mut HttpSettings)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.http);
    setup
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// Sends everything before it reads, like simple clients.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> RawAnswer {
    in_time(stream.write_all(request)).await.expect("the server takes it");
    read_answer(stream).await.expect("it is answered")
}

/// After an answer without `Connection: close` the connection can be used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_body_that_nobody_reads_says_whether_the_connection_ends() {
    let server = Server::start(http(|http| http.max_body_bytes = 100_000)).await;
    for (method, path, status) in [
        ("POST", "/nowhere", 404),
        ("PUT", "/translate", 405),
        ("POST", "/livez", 405),
        ("POST", "/translate", 413),
    ] {
        for size in [10_000, 120_000, 3_000_000] {
            if status == 413 && size < 100_000 {
                continue;
            }
            let body = "x".repeat(size);
            let mut stream = connect(&server).await;
            let answer = ask(&mut stream, &raw(method, path, &body)).await;
            assert_eq!(answer.status, status, "{method} {path} with {size} bytes: {}", answer.body);
            if size > 1_000_000 {
                assert!(answer.says_close(), "{method} {path} with {size} bytes: {}", answer.head);
            }
            if answer.says_close() {
                let mut rest = Vec::new();
                assert_eq!(in_time(stream.read_to_end(&mut rest)).await.unwrap(), 0);
            } else {
                let next = ask(&mut stream, &raw("GET", "/livez", "")).await;
                assert_eq!(next.status, 200, "after {method} {path} with {size} bytes");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_turned_away_reads_why_however_long_the_request() {
    let server = Server::start(http(|http| http.max_concurrent_requests = 1)).await;
    server.gate.close();
    let first = tokio::spawn(server.post("/translate", &en_de(LINES[0])).send());
    server.until_held().await;
    let long = raw("POST", "/translate", &en_de("word ".repeat(18_000)).to_string());
    for _ in 0..50 {
        let answer = ask(&mut connect(&server).await, &long).await;
        assert_eq!(answer.status, 429);
        assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
        assert!(answer.body.contains("1 requests are in progress"), "{}", answer.body);
    }
    server.gate.open();
    assert_eq!(in_time(first).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_refused_without_it() {
    let server = Server::start(Setup::default()).await;
    let mut stream = connect(&server).await;
    let head = "POST /nowhere HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n";
    let answer = ask(&mut stream, head.as_bytes()).await;
    assert_eq!((answer.status, answer.says_close()), (404, true));
}

#[tokio::test]
async fn bodies_that_come_slowly_keep_nobody_out() {
    let server = Server::start(http(|http| http.max_concurrent_requests = 4)).await;
    let mut slow = Vec::new();
    let request = raw("POST", "/translate", &en_de(LINES[0]).to_string());
    for _ in 0..4 {
        let mut stream = connect(&server).await;
        stream.write_all(&request[..request.len() - 5]).await.unwrap();
        slow.push(stream);
    }
    // When a later request is answered, all of them have reached their handlers.
    for _ in 0..3 {
        assert_eq!(ask(&mut connect(&server).await, &request).await.status, 200);
    }
    for mut stream in slow {
        assert_eq!(ask(&mut stream, &request[request.len() - 5..]).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_a_408_that_says_so() {
    let server = Server::start(http(|http| http.body_timeout = Duration::from_millis(30))).await;
    let mut stream = connect(&server).await;
    let request = raw("POST", "/translate", &en_de(LINES[0]).to_string());
    let answer = ask(&mut stream, &request[..request.len() - 1]).await;
    assert_eq!((answer.status, answer.says_close()), (408, true));
    assert!(answer.body.contains("did not arrive within 30 ms"), "{}", answer.body);
}

#[tokio::test]
async fn half_a_head_is_cut_after_its_time_and_an_idle_connection_is_not() {
    let server = Server::start(http(|http| http.header_timeout = Duration::from_millis(10))).await;
    let (mut half, mut idle) = (connect(&server).await, connect(&server).await);
    half.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    // A reset ends the connection, too.
    let _ = in_time(half.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    assert_eq!(ask(&mut idle, &raw("GET", "/livez", "")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_more_and_more_and_stops_reading_is_cut() {
    let server = Server::start(http(|http| http.idle_timeout = Duration::from_millis(500))).await;
    let mut stream = connect(&server).await;
    let request = raw("POST", "/translate/stream", &en_de(vec![LINES[2]; 16]).to_string());
    stream.write_all(&request).await.unwrap();
    let mut status = [0; 12];
    in_time(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    // The answers fill the buffers, then the requests do; without the cut, the last one would wait for ever.
    in_time(async { while stream.write_all(&request).await.is_ok() {} }).await;
}

#[tokio::test]
async fn idle_connections_make_room_for_those_that_ask() {
    let server = Server::start(http(|http| http.max_connections = 8)).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(connect(&server).await);
    }
    assert_eq!(ask(&mut connect(&server).await, &raw("GET", "/livez", "")).await.status, 200);
    assert_eq!(ask(idle.last_mut().unwrap(), &raw("GET", "/livez", "")).await.status, 200);
    let mut rest = Vec::new();
    assert_eq!(in_time(idle[0].read_to_end(&mut rest)).await.unwrap(), 0, "the longest idle one was closed");
}

#[tokio::test]
async fn operators_are_answered_when_every_connection_is_at_work() {
    let setup = Setup { admin: true, ..http(|http| http.max_connections = 2) };
    let server = Server::start(setup).await;
    server.gate.close();
    let request = raw("POST", "/translate", &en_de(LINES[0]).to_string());
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        stream.write_all(&request).await.unwrap();
        busy.push(stream);
    }
    server.until_held().await;
    let refused = in_time(async {
        loop {
            let mut stream = connect(&server).await;
            match read_answer(&mut stream).await {
                Some(answer) => return answer,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(refused.status, 503);
    assert!(refused.says_close() && refused.head.contains("retry-after: 1"), "{}", refused.head);
    let body: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(body["code"], "too_many_connections");

    let mut admin = TcpStream::connect(server.admin.unwrap()).await.unwrap();
    for path in ["/livez", "/readyz", "/startupz", "/metrics", "/info", "/health"] {
        assert_eq!(ask(&mut admin, &raw("GET", path, "")).await.status, 200, "{path}");
    }
    assert_eq!(ask(&mut admin, &raw("POST", "/translate", "{}")).await.status, 404);
    server.gate.open();
    for stream in &mut busy {
        assert_eq!(read_answer(stream).await.unwrap().status, 200);
    }
}
