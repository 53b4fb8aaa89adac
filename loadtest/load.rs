//! What is sent and when: texts, the arrivals of a Poisson process, and a client that keeps to them.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::Requests;
use crate::report::Report;

const SENTENCES: [&str; 6] = [
    "Where is the train station?",
    "Thank you.",
    "I would like to book a table for four people on Friday evening.",
    "The weather was so bad that we stayed at home and read.",
    "She has been working in this hospital for more than twenty years.",
    "Tom didn't know that Mary could speak French as well as she does.",
];

/// Until a caller of the closed loop asks again that was not translated. Without it, refusals would take the time of
/// translations.
const PAUSE: Duration = Duration::from_millis(10);

/// One request to be sent.
#[derive(Clone, Copy)]
pub struct Arrival {
    /// From the start of the run.
    pub at: Duration,
    pub text: usize,
    pub steps: Option<u8>,
}

/// Everything random is drawn before the clock runs: one seed, one load.
pub struct LoadPlan {
    pub rate: f64,
    /// In which the arrivals lie.
    pub duration: Duration,
    /// The first part of the duration, whose answers do not count for the goodput.
    pub warm_up: Duration,
    pub arrivals: Vec<Arrival>,
}

impl LoadPlan {
    /// `rate` requests a second for `duration` seconds.
    pub fn poisson(requests: &Requests, texts: usize, rate: f64, duration: f64) -> Result<Self> {
        ensure!(rate > 0.0 && rate.is_finite(), "the rate must be above 0");
        ensure!(duration > 0.0 && duration <= 86_400.0, "the duration must be above 0, a day at most");
        if rate * duration > 1e7 {
            bail!("rate times duration is above ten million requests");
        }
        let mut random = ChaCha8Rng::seed_from_u64(requests.seed);
        let mut arrivals = Vec::new();
        let mut at = 0.0;
        loop {
            // Inter-arrival times of a Poisson process are exponential: -ln(1 - u) / rate.
            at -= (1.0 - random.random::<f64>()).ln() / rate;
            if at >= duration {
                let duration = Duration::from_secs_f64(duration);
                return Ok(Self { rate, duration, warm_up: Duration::ZERO, arrivals });
            }
            let (text, steps) = draw(&mut random, requests, texts);
            arrivals.push(Arrival { at: Duration::from_secs_f64(at), text, steps });
        }
    }
}

impl LoadPlan {
    /// Every text once, in order, `rate` a second; the steps take turns.
    pub fn each_once(requests: &Requests, texts: usize, rate: f64) -> Result<Self> {
        let all = Duration::try_from_secs_f64(texts as f64 / rate).context("the rate must be above 0")?;
        let steps = |text: usize| requests.steps.get(text % requests.steps.len().max(1)).copied();
        let arrival = |text: usize| Arrival {
            at: Duration::from_secs_f64(text as f64 / rate),
            text,
            steps: steps(text),
        };
        let arrivals = (0..texts).map(arrival).collect();
        Ok(Self { rate, duration: all, warm_up: Duration::ZERO, arrivals })
    }
}

fn draw(random: &mut ChaCha8Rng, requests: &Requests, texts: usize) -> (usize, Option<u8>) {
    let steps = match requests.steps.as_slice() {
        [] => None,
        choices => Some(choices[random.random_range(0..choices.len())]),
    };
    (random.random_range(0..texts), steps)
}

/// How one request ended.
pub struct Done {
    pub steps: Option<u8>,
    /// A status, or what went wrong below HTTP.
    pub ended: Result<u16, &'static str>,
    /// The end of the answer, from the start of the run.
    pub at: Duration,
    /// From the intended start to the end of the answer.
    pub latency: Duration,
    /// How late the request left: the generator's own fault.
    pub late: Duration,
}

/// Makes requests; shared by everything that sends them.
struct Source {
    requests: Requests,
    texts: Vec<String>,
    http: reqwest::Client,
}

impl Source {
    async fn send(
        &self,
        text: usize,
        steps: Option<u8>,
        deadline_ms: Option<u64>,
    ) -> Result<u16, &'static str> {
        let kind = |error: reqwest::Error| match () {
            () if error.is_timeout() => "timeout",
            () if error.is_connect() => "cannot connect",
            () if error.is_body() || error.is_decode() => "cut answer",
            () => "connection lost",
        };
        let mut body = body(&self.requests, &self.texts[text]);
        body["deadline_ms"] = deadline_ms.into();
        let mut request = self.http.post(&self.requests.url).json(&body);
        if let Some(steps) = steps {
            request = request.query(&[("steps", steps)]);
        }
        let response = request.send().await.map_err(kind)?;
        let status = response.status().as_u16();
        response.bytes().await.map_err(kind)?;
        Ok(status)
    }
}

/// A translation as the server's own dialect has it.
pub fn body(requests: &Requests, text: &str) -> Value {
    // A value of null is no value.
    json!({
        "q": text, "source": requests.source, "target": requests.target, "deadline_ms": requests.deadline_ms,
    })
}

pub struct Client {
    source: Arc<Source>,
    runtime: Runtime,
}

impl Client {
    pub fn new(requests: &Requests) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs_f64(requests.timeout))
            .tcp_nodelay(true)
            .no_proxy()
            .build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let source = Source { requests: requests.clone(), texts: texts(requests)?, http };
        Ok(Self { source: Arc::new(source), runtime })
    }

    /// How many there are to draw from.
    pub fn texts(&self) -> usize {
        self.source.texts.len()
    }

    /// How many of them differ.
    pub fn different_texts(&self) -> usize {
        self.source.texts.iter().collect::<HashSet<_>>().len()
    }

    /// The open loop: keeps to the plan, whatever the answers.
    pub fn send_all(&self, plan: &LoadPlan) -> Result<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // A small lead, so that the first arrivals are not late already.
        let start = Instant::now() + Duration::from_millis(20);
        // tokio's timers tick in milliseconds, which is as long as a translation; a sleeping thread wakes
        // within some 60 µs.
        for &Arrival { at, text, steps } in &plan.arrivals {
            let due = start + at;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (sender, source) = (sender.clone(), self.source.clone());
            self.runtime.spawn(async move {
                let late = due.elapsed();
                let ended = source.send(text, steps, source.requests.deadline_ms).await;
                // The receiver outlives every request.
                let _ = sender.send(Done { steps, ended, at: start.elapsed(), latency: due.elapsed(), late });
            });
        }
        drop(sender);
        Report::collect(receiver, Some(plan.rate), plan.warm_up..plan.duration)
    }

    /// The closed loop: `callers` that each ask again as soon as they are answered. What comes out in
    /// the time that is `counted` from the start is what the server can do. No request has a deadline, so that none
    /// is refused for lack of time.
    pub fn saturate(&self, callers: u64, counted: Range<Duration>) -> Result<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let start = Instant::now();
        let end = start + counted.end;
        for caller in 0..callers {
            let (sender, source) = (sender.clone(), self.source.clone());
            let mut random = ChaCha8Rng::seed_from_u64(source.requests.seed);
            random.set_stream(caller);
            self.runtime.spawn(async move {
                while Instant::now() < end {
                    let (text, steps) = draw(&mut random, &source.requests, source.texts.len());
                    let sent = Instant::now();
                    let ended = source.send(text, steps, None).await;
                    let (at, latency, late) = (start.elapsed(), sent.elapsed(), Duration::ZERO);
                    let _ = sender.send(Done { steps, ended, at, latency, late });
                    if !matches!(ended, Ok(200..=299)) {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            });
        }
        drop(sender);
        Report::collect(receiver, None, counted)
    }
}

/// What can be sent: the file's lines, or the built-in sentences.
pub fn texts(requests: &Requests) -> Result<Vec<String>> {
    let Some(path) = &requests.texts else { return Ok(SENTENCES.map(str::to_owned).into()) };
    let file = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let texts: Vec<String> = file.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "{}: no text in it", path.display());
    Ok(texts)
}
