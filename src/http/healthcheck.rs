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

/// A server that listens on every address is asked on the loopback one.
fn reachable(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}

#[cfg(test)]
mod tests;
