use std::net::TcpListener;
use std::thread;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Checks a server that reads the request, writes `answer` and disconnects. Returns the request as well.
fn check(answer: &'static str) -> (io::Result<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (healthcheck(everywhere, "/readyz", LIMIT), server.join().unwrap())
}

#[test]
fn a_server_that_listens_on_all_addresses_and_answers_200_is_healthy() {
    let (outcome, request) = check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    outcome.unwrap();
    assert!(request.starts_with("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
}

#[test]
fn any_other_status_is_named() {
    let (outcome, _) = check("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    assert_eq!(outcome.unwrap_err().to_string(), "/readyz answers with status 503");
}

#[test]
fn a_response_that_is_not_http_is_an_error() {
    for answer in ["220 smtp.example ESMTP\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "200"] {
        assert!(check(answer).0.is_err(), "{answer}");
    }
}

#[test]
fn without_a_server_the_check_fails() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(healthcheck(free, "/readyz", LIMIT).is_err());
}

#[test]
fn only_an_unspecified_address_is_replaced() {
    for (from, to) in [("[::]:1", "[::1]:1"), ("0.0.0.0:2", "127.0.0.1:2"), ("10.1.2.3:4", "10.1.2.3:4")] {
        assert_eq!(reachable(from.parse().unwrap()), to.parse().unwrap());
    }
}
