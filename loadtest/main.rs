//! An open-loop load generator: requests leave when a Poisson process says so, whether or not earlier
//! ones have been answered, and a latency counts from the moment at which the request was *meant* to
//! leave. So a server that falls behind shows it, where a closed loop would just ask more slowly
//! (coordinated omission).
//!
//!     cargo run --release --example loadtest -- --texts FILE --rate 50 --duration 30 --steps 1,4
//!
//! Without `--texts` some built-in sentences are sent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const SENTENCES: [&str; 6] = [
    "Where is the train station?",
    "Thank you.",
    "I would like to book a table for four people on Friday evening.",
    "The weather was so bad that we stayed at home and read.",
    "She has been working in this hospital for more than twenty years.",
    "Tom didn't know that Mary could speak French as well as she does.",
];

/// Sends translations at a fixed rate and reports how long they took.
#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "http://127.0.0.1:8080/translate")]
    url: String,
    /// One text a line; drawn uniformly.
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Requests per second, on average.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds in which requests leave.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Drawn uniformly for each request; without it the server's default.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<u8>,
    #[arg(long, default_value = "en")]
    source: String,
    #[arg(long, default_value = "de")]
    target: String,
    /// Of arrivals, texts and steps.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// One request of the plan.
struct Arrival {
    /// From the start of the run.
    at: Duration,
    text: usize,
    steps: Option<u8>,
}

/// How one request ended.
struct Done {
    steps: Option<u8>,
    /// A status, or what went wrong below HTTP.
    ended: Result<u16, &'static str>,
    /// From the intended start to the end of the answer.
    latency: Duration,
    /// How late the request left: the generator's own fault.
    late: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let texts = texts(&arguments)?;
    let plan = plan(&arguments, texts.len())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs_f64(arguments.timeout))
        .tcp_nodelay(true)
        .no_proxy()
        .build()?;

    let (sender, mut receiver) = mpsc::unbounded_channel();
    // A small lead, so that the first arrivals are not late already.
    let start = Instant::now() + Duration::from_millis(20);
    // tokio's timers tick in milliseconds, which is as long as a translation; a sleeping thread wakes
    // within some 60 µs.
    for arrival in &plan {
        let due = start + arrival.at;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body =
            json!({ "q": texts[arrival.text], "source": arguments.source, "target": arguments.target });
        let mut request = client.post(&arguments.url).json(&body);
        if let Some(steps) = arrival.steps {
            request = request.query(&[("steps", steps)]);
        }
        let (sender, steps) = (sender.clone(), arrival.steps);
        runtime.spawn(async move {
            let late = due.elapsed();
            let ended = send(request).await;
            // The receiver outlives every request.
            let _ = sender.send(Done { steps, ended, latency: due.elapsed(), late });
        });
    }
    drop(sender);
    let mut report = Report::new()?;
    while let Some(done) = receiver.blocking_recv() {
        report.add(&done)?;
    }
    let elapsed = start.elapsed();
    if arguments.json {
        println!("{}", report.to_json(&arguments, elapsed));
    } else {
        report.print(&arguments, elapsed);
    }
    Ok(())
}

fn texts(arguments: &Arguments) -> Result<Vec<String>> {
    let Some(path) = &arguments.texts else { return Ok(SENTENCES.map(str::to_owned).into()) };
    let file = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let texts: Vec<String> = file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "{}: no text in it", path.display());
    Ok(texts)
}

/// Everything random is drawn before the clock runs: one seed, one load.
fn plan(arguments: &Arguments, texts: usize) -> Result<Vec<Arrival>> {
    ensure!(arguments.rate > 0.0 && arguments.rate.is_finite(), "--rate must be above 0");
    ensure!(
        arguments.duration > 0.0 && arguments.duration <= 86_400.0,
        "--duration must be above 0, a day at most"
    );
    if arguments.rate * arguments.duration > 1e7 {
        bail!("--rate times --duration is above ten million requests");
    }
    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    loop {
        // Inter-arrival times of a Poisson process are exponential: -ln(1 - u) / rate.
        at -= (1.0 - random.random::<f64>()).ln() / arguments.rate;
        if at >= arguments.duration {
            return Ok(arrivals);
        }
        let steps = match arguments.steps.as_slice() {
            [] => None,
            choices => Some(choices[random.random_range(0..choices.len())]),
        };
        arrivals.push(Arrival {
            at: Duration::from_secs_f64(at),
            text: random.random_range(0..texts),
            steps,
        });
    }
}

async fn send(request: reqwest::RequestBuilder) -> Result<u16, &'static str> {
    let kind = |error: reqwest::Error| match () {
        () if error.is_timeout() => "timeout",
        () if error.is_connect() => "cannot connect",
        () if error.is_body() || error.is_decode() => "cut answer",
        () => "connection lost",
    };
    let response = request.send().await.map_err(kind)?;
    let status = response.status().as_u16();
    response.bytes().await.map_err(kind)?;
    Ok(status)
}

struct Report {
    /// Answers with 2xx, in microseconds, by steps; 0 stands for the server's default.
    latencies: BTreeMap<u8, Histogram<u64>>,
    late: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
}

impl Report {
    fn new() -> Result<Self> {
        Ok(Self {
            latencies: BTreeMap::new(),
            late: Histogram::new(3)?,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        })
    }

    fn add(&mut self, done: &Done) -> Result<()> {
        self.late.record(done.late.as_micros() as u64)?;
        match done.ended {
            Ok(status) => {
                *self.statuses.entry(status).or_default() += 1;
                if (200..300).contains(&status) {
                    let steps = done.steps.unwrap_or(0);
                    let histogram = match self.latencies.entry(steps) {
                        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Histogram::new(3)?),
                    };
                    histogram.record(done.latency.as_micros() as u64)?;
                }
            }
            Err(kind) => *self.errors.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.late.len()
    }

    fn answered(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    fn to_json(&self, arguments: &Arguments, elapsed: Duration) -> Value {
        let latencies: BTreeMap<String, Value> =
            self.latencies.iter().map(|(&steps, histogram)| (name(steps), quantiles_ms(histogram))).collect();
        json!({
            "url": arguments.url,
            "rate_asked_per_second": arguments.rate,
            "rate_sent_per_second": self.sent() as f64 / arguments.duration,
            "rate_answered_per_second": self.answered() as f64 / elapsed.as_secs_f64(),
            "seed": arguments.seed,
            "elapsed_seconds": elapsed.as_secs_f64(),
            "sent": self.sent(),
            "statuses": self.statuses,
            "errors": self.errors,
            "latency_ms_by_steps": latencies,
            "sent_late_ms": quantiles_ms(&self.late),
        })
    }

    fn print(&self, arguments: &Arguments, elapsed: Duration) {
        let answered = self.answered() as f64 / elapsed.as_secs_f64();
        println!(
            "{} requests in {:.1} s: {:.1}/s asked, {:.1}/s sent, {answered:.1}/s answered",
            self.sent(),
            elapsed.as_secs_f64(),
            arguments.rate,
            self.sent() as f64 / arguments.duration,
        );
        for (status, count) in &self.statuses {
            println!("  status {status}: {count}");
        }
        for (kind, count) in &self.errors {
            println!("  {kind}: {count}");
        }
        println!("\nlatency from the intended send time, milliseconds (2xx only)");
        println!(
            "{:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "steps", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        for (&steps, histogram) in &self.latencies {
            print_row(&name(steps), histogram);
        }
        println!("\nhow late this generator sent (trust no latency below it)");
        print_row("", &self.late);
    }
}

fn name(steps: u8) -> String {
    if steps == 0 { "default".to_owned() } else { steps.to_string() }
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn quantiles_ms(histogram: &Histogram<u64>) -> Value {
    let at = |q| ms(histogram.value_at_quantile(q));
    json!({
        "count": histogram.len(), "mean": histogram.mean() / 1000.0,
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": ms(histogram.max()),
    })
}

fn print_row(name: &str, histogram: &Histogram<u64>) {
    let at = |q| ms(histogram.value_at_quantile(q));
    println!(
        "{name:>8} {:>8} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        histogram.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        ms(histogram.max())
    );
}
