//! What the server does when more comes than it can do. First its capacity, in a closed loop with enough
//! callers to fill every batch; then the open loop at shares of that capacity. A server that bears
//! overload translates at twice the capacity as much as at its best, turns the rest away with 429 or 503,
//! and answers what it accepted in bounded time.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::Requests;
use crate::load::{Client, Plan};
use crate::report::Report;

/// Of the peak, at the greatest share.
const LEAST_GOODPUT: f64 = 0.95;

#[derive(Args)]
pub struct Overload {
    #[command(flatten)]
    requests: Requests,
    /// Requests per second that count as the capacity; measured if not given.
    #[arg(long)]
    capacity: Option<f64>,
    /// Callers of the closed loop that measures it.
    #[arg(long, default_value_t = 128)]
    callers: u64,
    /// Of the capacity.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,2.0")]
    shares: Vec<f64>,
    /// Seconds for each share, and for the capacity.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
}

pub fn run(arguments: &Overload) -> Result<()> {
    let Overload { requests, duration, .. } = arguments;
    ensure!(*duration > 0.0 && *duration <= 3600.0, "the duration must be above 0, an hour at most");
    ensure!(arguments.callers > 0, "a closed loop needs callers");
    ensure!(!arguments.shares.is_empty(), "no share to be sent");
    let client = Client::new(requests)?;
    let measured = match arguments.capacity {
        Some(_) => None,
        None => {
            let warm_up = Duration::from_secs_f64(duration / 5.0);
            let counted = warm_up..warm_up + Duration::from_secs_f64(*duration);
            Some(client.saturate(arguments.callers, counted)?)
        }
    };
    let capacity = arguments.capacity.or(measured.as_ref().map(Report::goodput)).unwrap_or(0.0);
    ensure!(
        capacity > 0.0,
        "nothing was translated: {}",
        measured.map_or_else(String::new, |m| m.to_string())
    );
    if !requests.json {
        println!("capacity {capacity:.1}/s");
        println!(
            "{:>7} {:>9} {:>8} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>10}",
            "share",
            "asked/s",
            "sent",
            "goodput/s",
            "429+503",
            "failed",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "late p99"
        );
    }
    let mut runs = Vec::new();
    for &share in &arguments.shares {
        let plan = Plan::poisson(requests, client.texts(), share * capacity, *duration)?;
        let report = client.send_all(&plan)?;
        if !requests.json {
            print(share, &report)?;
        }
        runs.push((share, report));
    }
    let verdict = Verdict::of(&runs, measured.as_ref(), bound_ms(requests))?;
    if requests.json {
        let runs: Vec<_> =
            runs.iter().map(|(share, run)| json!({ "share": share, "report": run.to_json() })).collect();
        println!(
            "{}",
            json!({ "capacity_per_second": capacity, "runs": runs, "verdict": verdict.to_json() })
        );
    } else {
        println!("{verdict}");
    }
    Ok(())
}

/// What an accepted request may take: its deadline, and what a waiting client and the way there and back
/// add to it.
fn bound_ms(requests: &Requests) -> f64 {
    requests.deadline_ms.map_or(requests.timeout * 1000.0, |deadline| deadline as f64 + 50.0)
}

fn print(share: f64, report: &Report) -> Result<()> {
    println!(
        "{:>6.0}% {:>9.1} {:>8} {:>9.1} {:>7} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>10.2}",
        share * 100.0,
        report.rate().unwrap_or(0.0),
        report.sent(),
        report.goodput(),
        report.status(429) + report.status(503),
        report.failed(),
        report.latency_ms(0.5)?,
        report.latency_ms(0.9)?,
        report.latency_ms(0.99)?,
        report.late_ms(0.99),
    );
    Ok(())
}

/// What the runs say together.
struct Verdict {
    /// Of the greatest share, as a part of the best that was seen.
    goodput: f64,
    failed: u64,
    p99_ms: f64,
    bound_ms: f64,
}

impl Verdict {
    fn of(runs: &[(f64, Report)], measured: Option<&Report>, bound_ms: f64) -> Result<Self> {
        let peak = runs.iter().map(|(_, run)| run).chain(measured).map(Report::goodput).fold(0.0, f64::max);
        let mut verdict = Self { goodput: 0.0, failed: 0, p99_ms: 0.0, bound_ms };
        let mut greatest = 0.0;
        for (share, run) in runs {
            verdict.failed += run.failed();
            verdict.p99_ms = verdict.p99_ms.max(run.latency_ms(0.99)?);
            if *share > greatest {
                greatest = *share;
                verdict.goodput = run.goodput() / peak;
            }
        }
        Ok(verdict)
    }

    fn holds(&self) -> bool {
        self.goodput >= LEAST_GOODPUT && self.failed == 0 && self.p99_ms <= self.bound_ms
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "holds": self.holds(), "goodput_of_peak": self.goodput, "failed": self.failed,
            "p99_ms": self.p99_ms, "bound_ms": self.bound_ms,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: goodput at the greatest share {:.1} % of the peak (at least {:.0} %), {} failed (none), worst p99 \
             {:.0} ms (at most {:.0} ms)",
            if self.holds() { "holds" } else { "DOES NOT HOLD" },
            self.goodput * 100.0,
            LEAST_GOODPUT * 100.0,
            self.failed,
            self.p99_ms,
            self.bound_ms,
        )
    }
}
