//! What the server adds to its engine: one request after the other on one connection, and for each the
//! time that this client waited, less what the answer's `Server-Timing` says of the engine (queue,
//! encode, decode). What is left is everything else: this client's own work, the loopback, HTTP, JSON,
//! the tokenizer on the way in and out, and every change of threads.
//!
//! The client is hyper's bare connection on one thread, so that little of what is left is its own. How
//! much of it is neither the tokenizer's nor a translation's at all shows in `floor`: the same client
//! asking `/livez`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
        let parts =
            runtime.block_on(measure(requests, steps, Duration::from_secs_f64(arguments.duration)))?;
        parts.print(steps, requests.json);
    }
    Ok(())
}

async fn measure(requests: &Requests, steps: Option<u8>, duration: Duration) -> Result<Parts> {
    let uri: Uri = requests.url.parse().with_context(|| requests.url.clone())?;
    let authority = uri.authority().context("the URL names no host")?;
    let address = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.with_context(|| requests.url.clone())?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);

    let path = steps.map_or_else(|| uri.path().to_owned(), |steps| format!("{}?steps={steps}", uri.path()));
    let make = |text: &String| {
        Request::post(path.as_str())
            .header(HOST, authority.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body(requests, text).to_string()))
    };
    let prepared = texts(requests)?.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let mut parts = Parts::new()?;
    let idle = Request::get("/livez").header(HOST, authority.as_str()).body(Full::default())?;
    let start = Instant::now();
    for request in prepared.iter().cycle() {
        let (waited, headers) = exchange(&mut sender, request.clone()).await?;
        if start.elapsed() < duration / 10 {
            continue;
        }
        let stages = Stages::of(&headers).context("the answer has no Server-Timing that can be read")?;
        let (floor, _) = exchange(&mut sender, idle.clone()).await?;
        let added = waited.saturating_sub(stages.engine);
        parts.add([waited, stages.total, stages.engine, stages.words, added, floor])?;
        if start.elapsed() >= duration + duration / 10 {
            break;
        }
    }
    drop(sender);
    connection.await??;
    Ok(parts)
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(Duration, HeaderMap)> {
    let sent = Instant::now();
    sender.ready().await?;
    let (head, answer) = sender.send_request(request).await?.into_parts();
    let answer = answer.collect().await?.to_bytes();
    let waited = sent.elapsed();
    ensure!(head.status == 200, "{}: {}", head.status, String::from_utf8_lossy(&answer));
    Ok((waited, head.headers))
}

/// Of `Server-Timing`: `name;dur=MILLISECONDS, …`.
struct Stages {
    engine: Duration,
    words: Duration,
    total: Duration,
}

impl Stages {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get("server-timing")?.to_str().ok()?;
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
