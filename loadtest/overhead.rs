//! What the server adds to its engine: one request after the other on one connection, and for each the
//! time that this client waited, less what the answer's `Server-Timing` says of the engine (queue,
//! encode, decode). What is left is everything else: this client's own work, the loopback, HTTP, JSON,
//! the tokenizer on the way in and out, and every change of threads.
//!
//! The client is a bare blocking socket, so that little of what is left is its own: it writes bytes that
//! were prepared and reads until the answer is whole. How much of what is left is neither the tokenizer's
//! nor a translation's at all shows in `floor`: the same client asking `/livez`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use reqwest::Url;
use serde_json::{Map, Value, json};

use crate::Requests;
use crate::load::{body, texts};
use crate::report::{histogram, micros, ms, quantiles_ms};

#[derive(Args)]
pub struct Overhead {
    #[command(flatten)]
    requests: Requests,
    /// How long requests are sent for each number of steps; a tenth of it goes before.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
}

/// What is told of each request, and how it is called.
const PARTS: [&str; 6] = ["client", "server", "engine", "words", "added", "floor"];

/// In microseconds: what this client waited; from head to answer in the server; the engine's part of it;
/// the tokenizer's, in and out; client less engine; what this client waits for an answer without work.
struct Parts([Histogram<u64>; PARTS.len()]);

pub fn run(arguments: &Overhead) -> Result<()> {
    ensure!(
        arguments.duration > 0.0 && arguments.duration <= 3600.0,
        "the duration must be above 0, an hour at most"
    );
    let requests = &arguments.requests;
    let steps: Vec<Option<u8>> = match requests.steps.as_slice() {
        [] => vec![None],
        steps => steps.iter().copied().map(Some).collect(),
    };
    if !requests.json {
        println!("one request at a time, p50 in milliseconds; added = client - engine, request by request");
        let names: String = PARTS.iter().map(|name| format!(" {name:>9}")).collect();
        println!("{:>8} {:>8}{names} {:>9} {:>10}", "steps", "count", "added p90", "difference");
    }
    for steps in steps {
        let parts = measure(requests, steps, Duration::from_secs_f64(arguments.duration))?;
        parts.print(steps, requests.json);
    }
    Ok(())
}

fn measure(requests: &Requests, steps: Option<u8>, duration: Duration) -> Result<Parts> {
    let url = Url::parse(&requests.url).with_context(|| requests.url.clone())?;
    let (host, port) = (url.host_str().context("the URL names no host")?, url.port().unwrap_or(80));
    let mut connection = Connection::open(host, port).with_context(|| requests.url.clone())?;

    let path = steps.map_or_else(|| url.path().to_owned(), |steps| format!("{}?steps={steps}", url.path()));
    let authority = url.authority();
    let prepared: Vec<String> = texts(requests)?
        .iter()
        .map(|text| {
            let body = body(requests, text).to_string();
            let length = body.len();
            format!(
                "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
        })
        .collect();
    let idle = format!("GET /livez HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let mut parts = Parts::new()?;
    let start = Instant::now();
    for request in prepared.iter().cycle() {
        let (waited, head) = connection.exchange(request)?;
        if start.elapsed() < duration / 10 {
            continue;
        }
        let timing = header(&head, "server-timing").and_then(Stages::of);
        let stages = timing.context("the answer has no Server-Timing that can be read")?;
        let (floor, _) = connection.exchange(&idle)?;
        let added = waited.saturating_sub(stages.engine);
        parts.add([waited, stages.total, stages.engine, stages.words, added, floor])?;
        if start.elapsed() >= duration + duration / 10 {
            break;
        }
    }
    Ok(parts)
}

/// One connection that is kept, with one request at a time on it.
struct Connection {
    stream: TcpStream,
    /// What was read of the current answer.
    answer: Vec<u8>,
}

impl Connection {
    fn open(host: &str, port: u16) -> Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// How long the whole answer took, and its head.
    fn exchange(&mut self, request: &str) -> Result<(Duration, String)> {
        let mut part = [0; 16 * 1024];
        self.answer.clear();
        let sent = Instant::now();
        self.stream.write_all(request.as_bytes())?;
        let mut whole = None;
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            match self.stream.read(&mut part)? {
                0 => bail!("the server closed the connection"),
                read => self.answer.extend_from_slice(&part[..read]),
            }
            if whole.is_none() {
                whole = end_of(&self.answer)?;
            }
        }
        let waited = sent.elapsed();
        let answer = String::from_utf8_lossy(&self.answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{}: {body}", head.lines().next().unwrap_or_default());
        Ok((waited, head.to_owned()))
    }
}

/// Where the answer will end, once its head is there.
fn end_of(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&answer[..head]);
    let length = header(&text, "content-length").context("an answer without a content-length")?;
    Ok(Some(head + 4 + length.parse::<usize>()?))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Of `Server-Timing`: `name;dur=MILLISECONDS, …`.
struct Stages {
    engine: Duration,
    words: Duration,
    total: Duration,
}

impl Stages {
    fn of(header: &str) -> Option<Self> {
        let mut stages = Self { engine: Duration::ZERO, words: Duration::ZERO, total: Duration::ZERO };
        for entry in header.split(',') {
            let (name, value) = entry.trim().split_once(";dur=")?;
            let time = Duration::try_from_secs_f64(value.parse::<f64>().ok()? / 1000.0).ok()?;
            match name {
                "queue" | "encode" | "decode" => stages.engine += time,
                "total" => stages.total = time,
                "tokenize" | "detokenize" => stages.words += time,
                _ => {}
            }
        }
        Some(stages)
    }
}

impl Parts {
    fn new() -> Result<Self> {
        let empty = histogram()?;
        Ok(Self(std::array::from_fn(|_| empty.clone())))
    }

    fn add(&mut self, times: [Duration; PARTS.len()]) -> Result<()> {
        for (part, time) in self.0.iter_mut().zip(times) {
            part.record(micros(time))?;
        }
        Ok(())
    }

    fn print(&self, steps: Option<u8>, as_json: bool) {
        let p50 = self.0.each_ref().map(|part| ms(part.value_at_quantile(0.5)));
        let [client, _, engine, _, added, _] = &self.0;
        let difference = ms(client.value_at_quantile(0.5)) - ms(engine.value_at_quantile(0.5));
        if as_json {
            let parts: Map<String, Value> = PARTS
                .iter()
                .zip(&self.0)
                .map(|(&name, part)| (format!("{name}_ms"), quantiles_ms(part)))
                .collect();
            println!("{}", json!({ "steps": steps, "difference_of_p50_ms": difference, "parts": parts }));
            return;
        }
        let steps = steps.map_or_else(|| "default".to_owned(), |steps| steps.to_string());
        let medians: String = p50.iter().map(|median| format!(" {median:>9.3}")).collect();
        let p90 = ms(added.value_at_quantile(0.9));
        println!("{steps:>8} {:>8}{medians} {p90:>9.3} {difference:>10.3}", client.len());
    }
}
