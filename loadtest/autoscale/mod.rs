//! A day's load on pods whose number an autoscaler decides, simulated: what each way to scale costs and what clients
//! see of it. The service times are measured on a server; the autoscaler's decisions are those of Kubernetes.
//!
//! What is simplified: requests are one sentence each and go to all ready pods alike; a batch is closed while it is
//! computed (the engine lets newcomers join at the next pass, so latencies here are a little longer); nodes have room.

mod day;
mod hpa;
mod plot;
mod pods;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::day::Day;
use self::hpa::{Autoscaler, Behavior, Observed, Rules, SYNC_SECONDS, Step};
use self::pods::{Pod, Service, Sink};
use crate::Requests;
use crate::load::Client;

/// As in config/kubernetes/components.
const BEHAVIOR: Behavior = Behavior {
    min: 2,
    max: 10,
    up: Rules { stabilization_seconds: 0.0, step: Step::Percent(100.0), period_seconds: 30.0 },
    down: Rules { stabilization_seconds: 300.0, step: Step::Pods(1), period_seconds: 60.0 },
};
const QUEUE: Target = Target { metric: Metric::QueueDepth, value: 32.0 };
const SATURATION: Target = Target { metric: Metric::Saturation, value: 0.7 };
const LATENCY: Target = Target { metric: Metric::LatencyP95, value: 0.1 };

/// Prometheus scrapes at multiples of this; the autoscaler decides some seconds later.
const SCRAPE_SECONDS: u32 = 15;
const DECIDES_AFTER: u32 = 7;
/// Seconds for which a curve has one point.
const SLOT_SECONDS: u32 = 300;
/// Callers that fill every batch.
const CALLERS: u64 = 64;

#[derive(Args)]
pub struct Autoscale {
    #[command(flatten)]
    requests: Requests,
    /// Milliseconds of a sentence alone and of each further one in a batch; without it they are measured at `--url`.
    #[arg(long, value_delimiter = ',', num_args = 1)]
    service_ms: Vec<f64>,
    /// Requests a second at the busiest time of the day without bursts; four times a pod's capacity by default.
    #[arg(long)]
    peak: Option<f64>,
    /// Seconds from the decision for a pod until it is ready.
    #[arg(long, default_value_t = 30.0)]
    start_seconds: f64,
    /// Draw load, pods and p99 over the day as an SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Metric {
    QueueDepth,
    Saturation,
    LatencyP95,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    metric: Metric,
    value: f64,
}

/// A way to decide the number of pods.
struct Policy {
    name: &'static str,
    /// None: the number never changes.
    targets: Vec<Target>,
    /// At the start of the day.
    pods: u32,
}

/// What came of one policy.
struct Outcome {
    name: &'static str,
    /// Microseconds.
    latencies: Histogram<u64>,
    slow: u64,
    refused: u64,
    pod_seconds: f64,
    most_pods: u32,
    changes: u32,
    curve: Vec<Point>,
}

/// The state at the end of a slot.
struct Point {
    hour: f64,
    rate: f64,
    pods: u32,
    p99_ms: f64,
}

/// A client notices this.
const SLOW: f64 = 1.0;

pub fn run(arguments: &Autoscale) -> Result<()> {
    let service = match arguments.service_ms[..] {
        [] => measure(&arguments.requests)?,
        [first, each] => Service { first: first / 1000.0, each: each / 1000.0 },
        _ => anyhow::bail!("--service-ms takes two numbers: FIRST,EACH"),
    };
    ensure!(service.first > 0.0 && service.each > 0.0, "service times must be above 0");
    let day = Day { peak: arguments.peak.unwrap_or(4.0 * service.capacity()) };
    ensure!(day.peak > 0.0 && day.peak < 1e5, "the peak must be above 0 and below 100,000 a second");
    ensure!((0.0..=3600.0).contains(&arguments.start_seconds), "--start-seconds is 0 to 3600");
    // What somebody who cannot scale has to pay for.
    let enough = ((day.most() / service.capacity() / SATURATION.value).ceil() as u32).max(BEHAVIOR.min);
    let scaled = |name, targets: &[Target]| Policy { name, targets: targets.to_vec(), pods: BEHAVIOR.min };
    let policies = [
        Policy { name: "fixed", targets: Vec::new(), pods: enough },
        scaled("queue depth", &[QUEUE]),
        scaled("saturation", &[SATURATION]),
        scaled("queue depth + saturation", &[QUEUE, SATURATION]),
        scaled("p95 latency", &[LATENCY]),
        scaled("p95 latency + saturation", &[LATENCY, SATURATION]),
    ];
    let outcomes = policies
        .iter()
        .map(|policy| simulate(policy, day, service, arguments.start_seconds, arguments.requests.seed))
        .collect::<Result<Vec<Outcome>>>()?;
    if arguments.requests.json {
        let outcomes: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        println!(
            "{}",
            json!({
                "first_ms": service.first * 1000.0, "each_ms": service.each * 1000.0,
                "capacity_per_second": service.capacity(), "peak_per_second": day.peak, "policies": outcomes,
            })
        );
    } else {
        println!(
            "a sentence alone {:.2} ms, each further one in a batch {:.2} ms: {:.0} a second in full batches; peak {:.0}/s, \
             bursts to {:.0}/s; a pod starts in {} s",
            service.first * 1000.0,
            service.each * 1000.0,
            service.capacity(),
            day.peak,
            day.most(),
            arguments.start_seconds,
        );
        println!(
            "{:<25} {:>8} {:>8} {:>9} {:>9} {:>9} {:>6} {:>5} {:>8} {:>10}",
            "scaled by",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "> 1 s",
            "refused",
            "pods",
            "most",
            "changes",
            "pod-hours"
        );
        outcomes.iter().for_each(|outcome| println!("{outcome}"));
    }
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::draw(&outcomes)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// A sentence alone, and what batches add, from a closed loop of one and of many callers.
fn measure(requests: &Requests) -> Result<Service> {
    let client = Client::new(requests)?;
    let counted = Duration::from_secs(1)..Duration::from_secs(6);
    let first = client.saturate(1, counted.clone())?.latency_ms(0.5)? / 1000.0;
    let goodput = client.saturate(CALLERS, counted)?.goodput();
    ensure!(first > 0.0 && goodput > 0.0, "{} translates nothing", requests.url);
    let each = (CALLERS as f64 / goodput - first) / (CALLERS - 1) as f64;
    ensure!(each > 0.0, "batches of {CALLERS} are no slower than one sentence: something else is the limit");
    Ok(Service { first, each })
}

/// Counts a slot, then is added to the day.
struct Slot {
    latencies: Histogram<u64>,
    slow: u64,
    refused: u64,
}

impl Sink for Slot {
    fn answered(&mut self, _: f64, latency: f64) {
        self.latencies.saturating_record((latency * 1e6) as u64);
        self.slow += u64::from(latency > SLOW);
    }

    fn refused(&mut self, _: f64) {
        self.refused += 1;
    }
}

fn simulate(policy: &Policy, day: Day, service: Service, start_seconds: f64, seed: u64) -> Result<Outcome> {
    let histogram = || Histogram::<u64>::new_with_bounds(1, 600_000_000, 2);
    let mut outcome = Outcome {
        name: policy.name,
        latencies: histogram()?,
        slow: 0,
        refused: 0,
        pod_seconds: 0.0,
        most_pods: policy.pods,
        changes: 0,
        curve: Vec::new(),
    };
    let mut slot = Slot { latencies: histogram()?, slow: 0, refused: 0 };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut autoscaler = Autoscaler::new(BEHAVIOR);
    let mut pods: Vec<Pod> = (0..policy.pods).map(|_| Pod::new(0.0)).collect();
    for second in 0..day::SECONDS {
        let now = f64::from(second);
        let rate = day.rate(now);
        let ready = pods.iter().filter(|pod| pod.ready_at <= now).count();
        for pod in pods.iter_mut().filter(|pod| pod.ready_at <= now) {
            pod.advance(now, now + 1.0, rate / ready as f64, service, &mut random, &mut slot);
        }
        outcome.pod_seconds += pods.len() as f64;
        if second % SCRAPE_SECONDS == 0 {
            pods.iter_mut().filter(|pod| pod.ready_at <= now).for_each(|pod| pod.scrape(now + 1.0));
        }
        if !policy.targets.is_empty() && second % SYNC_SECONDS == DECIDES_AFTER {
            let wanted = decide(&mut autoscaler, &policy.targets, &pods, now);
            outcome.changes += u32::from(wanted as usize != pods.len());
            while pods.len() < wanted as usize {
                pods.push(Pod::new(now + start_seconds));
            }
            while pods.len() > wanted as usize
                && let Some(mut pod) = pods.pop()
            {
                outcome.pod_seconds += pod.drain(now, service, &mut slot) - now;
            }
            outcome.most_pods = outcome.most_pods.max(wanted);
        }
        if second % SLOT_SECONDS == SLOT_SECONDS - 1 {
            let p99_ms = slot.latencies.value_at_quantile(0.99) as f64 / 1000.0;
            outcome.curve.push(Point { hour: now / 3600.0, rate, pods: pods.len() as u32, p99_ms });
            outcome.close(&mut slot)?;
        }
    }
    Ok(outcome)
}

fn decide(autoscaler: &mut Autoscaler, targets: &[Target], pods: &[Pod], now: f64) -> u32 {
    let running: Vec<&Pod> = pods.iter().filter(|pod| pod.ready_at <= now).collect();
    let values: Vec<Vec<f64>> = targets
        .iter()
        .map(|target| {
            let value = |pod: &&Pod| match target.metric {
                Metric::QueueDepth => pod.queue_depth(),
                Metric::Saturation => pod.saturation(),
                Metric::LatencyP95 => pod.p95(),
            };
            running.iter().filter_map(value).collect()
        })
        .collect();
    let observed: Vec<Observed<'_>> = targets
        .iter()
        .zip(&values)
        .map(|(target, values)| Observed {
            values,
            pending: pods.len() - running.len(),
            missing: running.len() - values.len(),
            target: target.value,
        })
        .collect();
    autoscaler.decide(now, pods.len() as u32, &observed)
}

impl Outcome {
    fn close(&mut self, slot: &mut Slot) -> Result<()> {
        self.latencies.add(&slot.latencies)?;
        slot.latencies.reset();
        self.slow += std::mem::take(&mut slot.slow);
        self.refused += std::mem::take(&mut slot.refused);
        Ok(())
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn pod_hours(&self) -> f64 {
        self.pod_seconds / 3600.0
    }

    /// Of all requests, 0 to 1.
    fn share(&self, count: u64) -> f64 {
        count as f64 / (self.latencies.len() + self.refused).max(1) as f64
    }

    fn to_json(&self) -> Value {
        json!({
            "scaled_by": self.name, "requests": self.latencies.len() + self.refused,
            "p50_ms": self.ms(0.5), "p99_ms": self.ms(0.99), "p999_ms": self.ms(0.999),
            "above_one_second": self.share(self.slow), "refused": self.share(self.refused),
            "mean_pods": self.pod_seconds / f64::from(day::SECONDS), "most_pods": self.most_pods,
            "changes": self.changes, "pod_hours": self.pod_hours(),
        })
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<25} {:>8.1} {:>8.1} {:>9.1} {:>8.3}% {:>8.3}% {:>6.2} {:>5} {:>8} {:>10.1}",
            self.name,
            self.ms(0.5),
            self.ms(0.99),
            self.ms(0.999),
            self.share(self.slow) * 100.0,
            self.share(self.refused) * 100.0,
            self.pod_seconds / f64::from(day::SECONDS),
            self.most_pods,
            self.changes,
            self.pod_hours(),
        )
    }
}
