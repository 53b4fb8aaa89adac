//! Requests of the clients that people have. Those that the table in src/http/CLIENTS.md calls replayed have the headers that
//! matter and the body byte for byte as the client's source writes it, but for the boundary of a multipart form. Each must be
//! answered in the shape that the client reads.

mod deepl;
mod extensions;
mod forms;
mod json;
mod libretranslate;
mod refusals;
mod upstream;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Server, in_time};

/// Sends `head` (without `host`, `content-length` and `connection`) and `body` as they are.
pub async fn replay(server: &Server, head: &str, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut request = format!("{}\r\n", head.trim().replace('\n', "\r\n").replace("\r\r", "\r"));
    request += &format!("host: {}\r\nconnection: close\r\n", server.address);
    if !body.is_empty() {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += "\r\n";
    let (address, request) = (server.address, [request.as_bytes(), body].concat());
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = in_time(exchange).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let body = answer[end + 4..].to_vec();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    (status, headers, if chunked { unchunked(&body) } else { body })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        content.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    content
}

/// The JSON of an answer that must be 200.
pub async fn replay_json(server: &Server, head: &str, body: impl AsRef<[u8]>) -> Value {
    let (status, _, answer) = replay(server, head, body.as_ref()).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status, 200, "{head}\n{answer}");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{head}\n{answer}\n{error}"))
}

/// A text as HTML has it.
pub fn in_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\u{a0}', "&#160;")
}

/// A multipart body as most libraries write it, with its boundary.
pub fn multipart(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!("--xYzZY\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body + "--xYzZY--\r\n"
}
