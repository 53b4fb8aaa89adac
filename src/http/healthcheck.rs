//! Checks a running server, for containers without curl: sends one GET over TCP and reads only the status line. It
//! does not depend on settings.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Fails unless `GET path` on `server` answers with 200. `limit` applies to connecting, to writing and to each
/// read.
///
/// # Errors
/// No server listens or answers in time, the response is not HTTP, or its status is not 200; the error names the
/// status.
pub fn healthcheck(server: SocketAddr, path: &str, limit: Duration) -> io::Result<()> {
    let address = reachable(server);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_write_timeout(Some(limit))?;
    stream.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut start)?;
    match status(&start) {
        Some("200") => Ok(()),
        Some(code) => Err(io::Error::other(format!("{path} answers with status {code}"))),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP")),
    }
}

/// The status in the first line of a response.
fn status(start: &[u8]) -> Option<&str> {
    let (version, code) = std::str::from_utf8(start).ok()?.split_once(' ')?;
    let holds = version.starts_with("HTTP/1.") && code.bytes().all(|byte| byte.is_ascii_digit());
    holds.then_some(code)
}

/// Replaces the address of a server that listens on all addresses by the loopback address.
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
