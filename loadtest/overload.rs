//! What the server does when more comes than it can do. First its capacity, in a closed loop with enough
//! callers to fill every batch; then the open loop at shares of that capacity. Under overload a server should
//! translate almost as much as at its best, turn the rest away with 429 or 503, and answer what it accepted in
//! bounded time.
//!
//! The server translates identical texts that are in flight at the same time only once (coalescing), so few texts
//! make its capacity look larger than it is: give `--texts` a file with many different lines.
//!
//! Machines change their pace within seconds, so all of this is done several times over: goodput is compared
//! within a round, and the verdict is the median of the rounds. Client and server should not share cores.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::Requests;
use crate::load::{Client, LoadPlan};
use crate::report::Report;

/// With fewer different texts, many of those in flight are identical.
const MANY_TEXTS: usize = 1000;

/// The least goodput at a share of the capacity, as a part of the peak. A refusal costs time, too, and their number
/// grows with the share: 90 % at twice the capacity, 75 % at five times.
fn least_goodput(share: f64) -> f64 {
    (1.0 - 0.05 * share).max(0.0)
}

/// Among pairs of share and goodput, the one that is furthest below its least goodput, or nearest to it.
fn worst(measured: impl IntoIterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let margin = |(share, goodput): &(f64, f64)| goodput - least_goodput(*share);
    measured.into_iter().min_by(|a, b| margin(a).total_cmp(&margin(b)))
}

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
    /// Of the capacity. Those above 1 are judged.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,2.0")]
    shares: Vec<f64>,
    /// Seconds for each share, and for the capacity.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// How often the capacity is measured and its shares are sent.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub fn run(arguments: &Overload) -> Result<()> {
    let Overload { requests, duration, .. } = arguments;
    ensure!(*duration > 0.0 && *duration <= 3600.0, "the duration must be above 0, an hour at most");
    ensure!(arguments.callers > 0, "a closed loop needs callers");
    ensure!(arguments.shares.iter().any(|&share| share > 1.0), "no share above 1: nothing shows overload");
    ensure!(arguments.rounds > 0, "at least one round");
    let client = Client::new(requests)?;
    let different = client.different_texts();
    if different < MANY_TEXTS {
        eprintln!(
            "warning: only {different} different texts; identical ones in flight are translated once, so the capacity \
             is overestimated: use --texts with at least {MANY_TEXTS} different lines"
        );
    }
    let rounds = (0..arguments.rounds).map(|_| Round::run(arguments, &client)).collect::<Result<Vec<_>>>()?;
    let verdict = Verdict::of(&arguments.shares, &rounds, bound_ms(requests))?;
    if requests.json {
        let rounds: Vec<_> = rounds.iter().map(Round::to_json).collect();
        println!("{}", json!({ "rounds": rounds, "verdict": verdict.to_json() }));
    } else {
        println!("{verdict}");
    }
    ensure!(verdict.holds(), "the server does too little, too slowly or fails under overload");
    Ok(())
}

/// The capacity, then its shares.
struct Round {
    capacity: f64,
    runs: Vec<(f64, Report)>,
}

impl Round {
    fn run(arguments: &Overload, client: &Client) -> Result<Self> {
        let Overload { requests, duration, .. } = arguments;
        let capacity = match arguments.capacity {
            Some(capacity) => capacity,
            None => {
                let warm_up = Duration::from_secs_f64(duration / 5.0);
                let counted = warm_up..warm_up + Duration::from_secs_f64(*duration);
                let measured = client.saturate(arguments.callers, counted)?;
                ensure!(measured.goodput() > 0.0, "nothing was translated: {measured}");
                measured.goodput()
            }
        };
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
            let plan = LoadPlan::poisson(requests, client.texts(), share * capacity, *duration)?;
            let report = client.send_all(&plan)?;
            if !requests.json {
                print(share, &report)?;
            }
            runs.push((share, report));
        }
        Ok(Self { capacity, runs })
    }

    /// Goodput at each share, as a part of the best of the round.
    fn goodput_of_peak(&self) -> Vec<f64> {
        let peak = self.runs.iter().map(|(_, run)| run.goodput()).fold(self.capacity, f64::max);
        self.runs.iter().map(|(_, run)| run.goodput() / peak).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        let runs: Vec<_> =
            self.runs.iter().map(|(share, run)| json!({ "share": share, "report": run.to_json() })).collect();
        json!({ "capacity_per_second": self.capacity, "runs": runs })
    }
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
    /// At `share`, as a part of the best of its round; the median of the rounds.
    goodput: f64,
    /// The share above 1 whose goodput is furthest below its minimum, or nearest to it.
    share: f64,
    failed: u64,
    p99_ms: f64,
    bound_ms: f64,
}

impl Verdict {
    fn of(shares: &[f64], rounds: &[Round], bound_ms: f64) -> Result<Self> {
        let parts: Vec<Vec<f64>> = rounds.iter().map(Round::goodput_of_peak).collect();
        let median = |index: usize| {
            let mut parts: Vec<f64> = parts.iter().map(|parts| parts[index]).collect();
            parts.sort_by(f64::total_cmp);
            parts[parts.len() / 2]
        };
        let judged = shares.iter().enumerate().filter(|(_, share)| **share > 1.0);
        let (share, goodput) =
            worst(judged.map(|(index, &share)| (share, median(index)))).context("no share above 1")?;
        let mut verdict = Self { goodput, share, failed: 0, p99_ms: 0.0, bound_ms };
        for (_, run) in rounds.iter().flat_map(|round| &round.runs) {
            verdict.failed += run.failed();
            verdict.p99_ms = verdict.p99_ms.max(run.latency_ms(0.99)?);
        }
        Ok(verdict)
    }

    fn holds(&self) -> bool {
        self.goodput >= least_goodput(self.share) && self.failed == 0 && self.p99_ms <= self.bound_ms
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "holds": self.holds(), "goodput_of_peak": self.goodput, "share": self.share,
            "least_goodput": least_goodput(self.share), "failed": self.failed, "p99_ms": self.p99_ms, "bound_ms": self.bound_ms,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: goodput at {:.0} % of the capacity, the worst share, {:.1} % of the peak in the median round (at least \
             {:.0} %), {} failed (none), worst p99 {:.0} ms (at most {:.0} ms)",
            if self.holds() { "holds" } else { "DOES NOT HOLD" },
            self.share * 100.0,
            self.goodput * 100.0,
            least_goodput(self.share) * 100.0,
            self.failed,
            self.p99_ms,
            self.bound_ms,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_goodput_falls_with_the_share() {
        for (share, least) in [(2.0, 0.9), (5.0, 0.75), (30.0, 0.0)] {
            assert!((least_goodput(share) - least).abs() < 1e-9, "{share}");
        }
    }

    #[test]
    fn the_worst_share_is_the_one_that_misses_its_minimum_by_most() {
        // At five times the capacity 80 % is enough; at twice the capacity 85 % is not.
        assert_eq!(worst([(2.0, 0.85), (5.0, 0.8)]), Some((2.0, 0.85)));
        assert_eq!(worst([(2.0, 0.99), (5.0, 0.76)]), Some((5.0, 0.76)));
        assert_eq!(worst([]), None);
    }
}
