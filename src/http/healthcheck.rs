//! Asks a running server whether it is well, for containers that have no curl: one GET over plain TCP,
//! of whose answer only the status line is read.
//!
//! Must never grow into an HTTP client, and knows no settings.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Fails unless a GET of `path` on `server` answers 200. `patience` bounds connecting, writing and
/// each read.
///
/// # Errors
/// Nobody listens or answers in time, the answer is not HTTP, or its status is another one, which the
/// error names.
pub fn healthcheck(server: SocketAddr, path: &str, patience: Duration) -> io::Result<()> {
    let address = reachable(server);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut start)?;
    match status(&start) {
        Some("200") => Ok(()),
        Some(code) => Err(io::Error::other(format!("{path} answers {code}"))),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP")),
    }
}

/// The status of an answer that starts so.
fn status(start: &[u8]) -> Option<&str> {
    let (version, code) = std::str::from_utf8(start).ok()?.split_once(' ')?;
    let holds = version.starts_with("HTTP/1.") && code.bytes().all(|byte| byte.is_ascii_digit());
    holds.then_some(code)
}

/// Who listens on every address is asked on the loopback one.
fn reachable(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Asks a server that reads the request, writes `answer` and hangs up. Gives the request as well.
    fn ask(answer: &'static str) -> (io::Result<()>, String) {
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
        (healthcheck(everywhere, "/readyz", PATIENCE), server.join().unwrap())
    }

    #[test]
    fn a_server_that_listens_everywhere_and_answers_200_is_well() {
        let (outcome, request) = ask("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        outcome.unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
    }

    #[test]
    fn any_other_status_is_named() {
        let (outcome, _) = ask("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(outcome.unwrap_err().to_string(), "/readyz answers 503");
    }

    #[test]
    fn what_is_not_http_is_not_well() {
        for answer in ["220 smtp.example ESMTP\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "200"] {
            assert!(ask(answer).0.is_err(), "{answer}");
        }
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(healthcheck(free, "/readyz", PATIENCE).is_err());
    }

    #[test]
    fn only_an_address_that_means_all_is_replaced() {
        for (from, to) in [("[::]:1", "[::1]:1"), ("0.0.0.0:2", "127.0.0.1:2"), ("10.1.2.3:4", "10.1.2.3:4")]
        {
            assert_eq!(reachable(from.parse().unwrap()), to.parse().unwrap());
        }
    }
}
