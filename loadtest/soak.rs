//! The open loop for long, and the server's resident memory meanwhile: a server that leaks shows a line
//! that rises. Every text is sent once before, and the first minutes do not count: buffers and caches that
//! depend on what is said fill in them, and a rare word or length does not look like a leak.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use reqwest::Url;
use serde_json::json;
use tutti::model::Bundle;

use crate::Requests;
use crate::load::{Client, LoadPlan};
use crate::scrape;

/// The warm-up is sent this many times faster than the load.
const FASTER: f64 = 5.0;
const MIB: f64 = 1024.0 * 1024.0;
/// After the first minutes, of the resident size then.
const GROWTH: f64 = 0.05;
/// What a server may take beyond its weights as f32.
const ALLOWANCE: f64 = 100e6;

#[derive(Args)]
pub struct Soak {
    #[command(flatten)]
    requests: Requests,
    /// Requests per second, on average.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Minutes at the start that do not count; at most a half of all.
    #[arg(long, default_value_t = 5.0)]
    settle: f64,
    /// Seconds between two looks at the memory.
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    /// The served bundle's folder: says whether its weights as f32 and 100 MB are kept.
    #[arg(long)]
    bundle: Option<PathBuf>,
}

/// One look: since the start, and the resident size in bytes.
type Sample = (Duration, f64);

pub fn run(arguments: &Soak) -> Result<()> {
    let Soak { requests, rate, minutes, settle, every, .. } = arguments;
    ensure!(*every > 0.0 && *every <= 3600.0, "--every must be above 0, an hour at most");
    let bound = arguments.bundle.as_deref().map(bound).transpose()?;
    let metrics: String = Url::parse(&requests.url)?.join("/metrics")?.into();
    let client = Client::new(requests)?;
    let before = client.send_all(&LoadPlan::each_once(requests, client.texts(), FASTER * rate)?)?;
    let plan = LoadPlan::poisson(requests, client.texts(), *rate, minutes * 60.0)?;
    let (over, samples) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let report = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&metrics, Duration::from_secs_f64(*every), &over, &samples));
        let report = client.send_all(&plan);
        over.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        watcher.join().map_err(|_| anyhow::anyhow!("the watcher died"))??;
        report
    })?;
    let samples = samples.into_inner().context("the watcher died")?;
    let settled = settle.clamp(0.0, minutes / 2.0) * 60.0;
    let memory = Memory::of(&samples, Duration::from_secs_f64(settled));
    let memory = memory.context("too short for two looks at the memory")?;
    if requests.json {
        println!(
            "{}",
            json!({ "before": before.to_json(), "load": report.to_json(), "memory": memory.to_json(bound) })
        );
    } else {
        println!("before: {} of {} texts answered", before.answered(), before.sent());
        println!("{report}\n{memory}");
        if let Some(bound) = bound {
            let verdict = if memory.most <= bound { "holds" } else { "DOES NOT HOLD" };
            println!("{verdict}: at most {:.1} MiB (the weights as f32, and 100 MB)", bound / MIB);
        }
    }
    ensure!(report.failed() == 0, "{} requests failed", report.failed());
    ensure!(memory.growth() <= GROWTH, "the memory grew by more than {:.0} %", GROWTH * 100.0);
    Ok(())
}

/// The bundle's weights as f32, plus the allowance.
fn bound(folder: &Path) -> Result<f64> {
    let bundle = Bundle::open(folder)?;
    let weights: usize = bundle.tensors().values().map(|tensor| tensor.elem_count()).sum();
    Ok(4.0 * weights as f64 + ALLOWANCE)
}

fn watch(url: &str, every: Duration, over: &AtomicBool, samples: &Mutex<Vec<Sample>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let start = Instant::now();
    let mut next = start;
    while !over.load(Ordering::Relaxed) {
        let resident = runtime.block_on(scrape::value(&http, url, "process_resident_memory_bytes"))?;
        if let Ok(mut samples) = samples.lock() {
            samples.push((start.elapsed(), resident));
        }
        next += every;
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Resident sizes in bytes, after the first minutes.
struct Memory {
    samples: usize,
    first: f64,
    last: f64,
    /// Of all.
    most: f64,
    /// Of those that count.
    most_counted: f64,
    /// Of the least-squares line, bytes a minute.
    slope: f64,
}

impl Memory {
    /// `None` where fewer than two samples lie after `settled`.
    fn of(samples: &[Sample], settled: Duration) -> Option<Self> {
        let counted: Vec<(f64, f64)> = samples
            .iter()
            .filter(|(at, _)| *at >= settled)
            .map(|&(at, bytes)| (at.as_secs_f64() / 60.0, bytes))
            .collect();
        let (first, last) = (counted.first()?.1, counted.last()?.1);
        let count = counted.len() as f64;
        let (x, y) =
            counted.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
        let (xy, xx) = counted.iter().fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - x) * (point.1 - y), sum.1 + (point.0 - x) * (point.0 - x))
        });
        let most = samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
        let most_counted = counted.iter().map(|sample| sample.1).fold(0.0, f64::max);
        let (samples, slope) = (counted.len(), xy / xx);
        (samples >= 2).then_some(Self { samples, first, last, most, most_counted, slope })
    }

    /// From the first sample that counts to the greatest.
    fn growth(&self) -> f64 {
        self.most_counted / self.first - 1.0
    }

    fn to_json(&self, bound: Option<f64>) -> serde_json::Value {
        json!({
            "samples": self.samples, "first_bytes": self.first, "last_bytes": self.last, "most_bytes": self.most,
            "slope_bytes_per_minute": self.slope, "growth": self.growth(), "bound_bytes": bound,
        })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "resident memory, {} samples after the first minutes: {:.1} MiB first, {:.1} last, {:.1} at most ever; \
             growth {:.1} %, slope {:+.3} MiB a minute",
            self.samples,
            self.first / MIB,
            self.last / MIB,
            self.most / MIB,
            self.growth() * 100.0,
            self.slope / MIB,
        )
    }
}
