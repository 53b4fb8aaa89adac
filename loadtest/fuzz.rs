//! Broken requests in great number: valid ones of every dialect with random edits, on connections that are cut, kept or
//! left half-sent. The server may refuse or hang up, but it must neither fail (500) nor end, and afterwards it answers as
//! before with as much memory.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::server::Server;

#[derive(Args)]
pub struct Fuzz {
    /// The server's program.
    #[arg(long, default_value = "target/release/tutti")]
    program: PathBuf,
    /// Arguments of the server, besides `--listen` and `--log-format`.
    #[arg(long = "argument", allow_hyphen_values = true)]
    arguments: Vec<String>,
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    #[arg(long, default_value_t = 4)]
    clients: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Path, media type, body.
const SEEDS: [(&str, &str, &str); 12] = [
    (
        "/translate",
        "application/json",
        r#"{"q":["Hello.","<b>x</b>"],"source":"auto","target":"de","format":"html","steps":1}"#,
    ),
    (
        "/translate",
        "application/json",
        r#"{"q":"Hello {name}.","source":"en","target":"de","steps":1,"glossary":{"Hello":"Hallo"}}"#,
    ),
    (
        "/translate?steps=1&deadline_ms=900",
        "application/x-www-form-urlencoded",
        "q=Hello.&source=en&target=de&alternatives=1",
    ),
    ("/translate?steps=1", "application/json", r#"{"from":"en","to":"de","text":"Hello."}"#),
    ("/translate/stream?steps=1", "application/json", r#"{"q":"Hello.","source":"en","target":"de"}"#),
    (
        "/v2/translate",
        "application/json",
        r#"{"text":["Hello."],"source_lang":"EN","target_lang":"DE","model_type":"latency_optimized"}"#,
    ),
    (
        "/v2/glossaries",
        "application/json",
        r#"{"name":"a","source_lang":"en","target_lang":"de","entries":"a\tb","entries_format":"tsv"}"#,
    ),
    ("/imme", "application/json", r#"{"source_lang":"en","target_lang":"de","text_list":["Hello."]}"#),
    ("/kiss", "application/json", r#"{"text":"Hello.","from":"en","to":"de"}"#),
    ("/detect", "application/json", r#"{"q":"Where is the train station?"}"#),
    (
        "/translate_file",
        "multipart/form-data; boundary=x",
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nHello.\r\n--x\r\ncontent-disposition: form-data; name=\"source\"\r\n\r\nen\r\n--x\r\ncontent-disposition: form-data; name=\"target\"\r\n\r\nde\r\n--x--\r\n",
    ),
    ("/languages", "text/plain", ""),
];

#[derive(Default)]
struct Counts {
    statuses: [AtomicU64; 6],
    /// Hung up without an answer.
    closed: AtomicU64,
    failed: AtomicU64,
    /// No answer and no end within the patience.
    silent: AtomicU64,
}

const PATIENCE: Duration = Duration::from_secs(40);
/// Until a client says that it sends no more.
const A_MOMENT: Duration = Duration::from_millis(50);

pub fn run(arguments: &Fuzz) -> Result<()> {
    let mut server = Server::start(&arguments.program, &arguments.arguments, "127.0.0.1:0")?;
    let (address, counts) = (server.address, Counts::default());
    let known = known(address)?;
    let before = server.resident_bytes()?;
    let begun = Instant::now();
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..arguments.clients.max(1) {
            let (counts, sent) = (&counts, &sent);
            scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
                random.set_stream(client);
                while sent.fetch_add(1, Relaxed) < arguments.requests {
                    one(address, &mut random, counts);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let after = server.resident_bytes()?;
    let now = self::known(address)?;
    ensure!(now == known, "the known sentence became {now:?}, before it was {known:?}");
    server.terminate().context("after the broken requests")?;
    let value = |count: &AtomicU64| count.load(Relaxed);
    let [closed, failed, silent] = [&counts.closed, &counts.failed, &counts.silent].map(value);
    let statuses: Vec<u64> = counts.statuses.iter().map(value).collect();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    if arguments.json {
        println!(
            "{}",
            json!({
                "requests": arguments.requests, "seconds": took, "by_class": statuses, "hung_up": closed, "status_500": failed,
                "silent": silent, "resident_mib": [mib(before), mib(after)],
            })
        );
    } else {
        println!(
            "{} broken requests in {took:.0} s: {} answered with 2xx, {} with 4xx, {} with 503 or 504, {closed} hung up on, \
             {failed} failed (500), {silent} without an end; memory {:.1} MiB before, {:.1} after; then a good answer and \
             a good end",
            arguments.requests,
            statuses[2],
            statuses[4],
            statuses[5],
            mib(before),
            mib(after)
        );
    }
    ensure!(failed == 0 && silent == 0, "the server failed");
    Ok(())
}

/// The translation of a sentence.
fn known(address: SocketAddr) -> Result<String> {
    let body = r#"{"q":"Where is the train station?","source":"en","target":"de","steps":4}"#;
    let answer = exchange(address, &raw("/translate", "application/json", body), false, PATIENCE)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    let answer: serde_json::Value = serde_json::from_str(body).with_context(|| text.clone())?;
    Ok(answer["translatedText"].as_str().with_context(|| text.clone())?.to_owned())
}

fn raw(path: &str, media_type: &str, body: &str) -> Vec<u8> {
    let (method, length) = (if body.is_empty() { "GET" } else { "POST" }, body.len());
    format!(
        "{method} {path} HTTP/1.1\r\nhost: loadtest\r\nconnection: close\r\ncontent-type: {media_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn one(address: SocketAddr, random: &mut ChaCha8Rng, counts: &Counts) {
    let (path, media_type, body) = SEEDS[random.random_range(0..SEEDS.len())];
    // In the body alone, so that its length is right; or anywhere.
    let bytes = if random.random_bool(0.5) {
        let edited = edited(body.as_bytes(), random);
        let mut bytes = raw(path, media_type, body);
        bytes.truncate(bytes.len() - body.len());
        let text = String::from_utf8_lossy(&bytes).replace(
            &format!("content-length: {}", body.len()),
            &format!("content-length: {}", edited.len()),
        );
        [text.into_bytes(), edited].concat()
    } else {
        edited(&raw(path, media_type, body), random)
    };
    // Some clients leave without listening.
    let leaves = random.random_bool(0.05);
    match exchange(address, &bytes, leaves, A_MOMENT) {
        Ok(_) if leaves => {}
        Ok(answer) => {
            let line =
                answer.get(..12).map(|line| String::from_utf8_lossy(line).into_owned()).unwrap_or_default();
            match line.strip_prefix("HTTP/1.1 ").and_then(|status| status.parse::<usize>().ok()) {
                None => drop(counts.closed.fetch_add(1, Relaxed)),
                Some(500) => {
                    counts.failed.fetch_add(1, Relaxed);
                    eprintln!("500 to {:?}", String::from_utf8_lossy(&bytes));
                }
                Some(status) => drop(counts.statuses[(status / 100).min(5)].fetch_add(1, Relaxed)),
            }
        }
        Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                counts.silent.fetch_add(1, Relaxed);
                eprintln!("no end after {PATIENCE:?} to {:?}", String::from_utf8_lossy(&bytes));
            }
            _ => drop(counts.closed.fetch_add(1, Relaxed)),
        },
    }
}

/// The server takes the end of the client's side for a client that has left, so that comes after a moment.
fn exchange(address: SocketAddr, bytes: &[u8], leaves: bool, moment: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(moment))?;
    // A server that has read enough may have closed already.
    let _ = stream.write_all(bytes);
    if leaves {
        return Ok(Vec::new());
    }
    let mut answer = vec![0; 4096];
    let read = match stream.read(&mut answer) {
        Ok(read) => read,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            0
        }
        Err(error) => return Err(error.into()),
    };
    answer.truncate(read);
    // A half-sent request ends here.
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn edited(input: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"\"",
        b"{",
        b"}",
        b"[",
        b"<",
        b"\r\n",
        b"\0",
        b"\xff\xff",
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551615",
    ];
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let length = random.random_range(0..16).min(bytes.len() - at);
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let copy = bytes[at..at + length].repeat(random.random_range(1..40));
                bytes.splice(at..at, copy);
            }
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.random()),
            _ => drop(bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].iter().copied())),
        }
    }
    bytes
}
