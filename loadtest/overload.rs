//! What the server does when more comes than it can do. Its capacity is measured in a closed loop with enough callers
//! to fill every batch; the open loop sends shares of that capacity. Under overload a server should translate almost
//! as much as at its best, turn the rest away with 429 or 503, and answer what it accepted in bounded time.
//!
//! Machines change their pace within seconds, by more than a refusal costs. So the capacity is measured before and
//! after each share, and goodput is compared with the mean of the two. If the two differ much, the round says nothing
//! about that share. The verdict is the median of the other rounds. Client and server should not share cores.
//!
//! The server translates identical texts that are in flight at the same time only once (coalescing), so few texts
//! make its capacity look larger than it is: give `--texts` a file with many different lines.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::Requests;
use crate::load::{Client, LoadPlan};
use crate::report::Report;

/// With fewer different texts, many of those in flight are identical.
const MANY_TEXTS: usize = 1000;

/// What a refusal may cost, as a part of a translation: at twice the capacity, 95 % of it are left.
const REFUSAL_COST: f64 = 0.05;

/// Shares below this are not judged: refusals take so little there that the noise of the goodput would decide.
const LEAST_JUDGED: f64 = 1.5;

/// How much the capacities before and after a share may differ, as a part of their mean. Rounds are left out whatever
/// the goodput between the two was.
const MOST_DRIFT: f64 = 0.1;

/// What the way to the server and back and a client that waits for its core may add to a latency, in milliseconds. If
/// requests leave later than this, the figures say nothing of the server.
const CLIENT_MS: f64 = 50.0;

/// The part of each measurement that goes before and does not count.
const WARM_UP: f64 = 0.2;

/// The least goodput at a share of the capacity, as a part of the capacity. If a refusal costs the part c of a
/// translation, a server that is always busy has the goodput g with `g + (share - g) c = 1`. So each share has its
/// own: 95 % at twice the capacity, 79 % at five times.
fn least_goodput(share: f64) -> f64 {
    ((1.0 - REFUSAL_COST * share) / (1.0 - REFUSAL_COST)).clamp(0.0, 1.0)
}

#[derive(Args)]
pub struct Overload {
    #[command(flatten)]
    requests: Requests,
    /// Requests per second that count as the capacity; measured before and after each share if not given.
    #[arg(long)]
    capacity: Option<f64>,
    /// Callers of the closed loop that measures it.
    #[arg(long, default_value_t = 128)]
    callers: u64,
    /// Shares of the capacity to send. Those from 1.5 are judged.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.8,2.0")]
    shares: Vec<f64>,
    /// Seconds for each share, and for each measurement of the capacity; before it, a fifth of this time is a warm-up.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// How often all shares are sent.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub fn run(arguments: &Overload) -> Result<()> {
    let Overload { requests, duration, .. } = arguments;
    ensure!(*duration > 0.0 && *duration <= 3600.0, "the duration must be above 0, an hour at most");
    ensure!(arguments.callers > 0, "a closed loop needs callers");
    let judged = arguments.shares.iter().any(|&share| share >= LEAST_JUDGED);
    ensure!(judged, "no share from {LEAST_JUDGED}: nothing shows overload");
    ensure!(arguments.rounds > 0, "at least one round");
    // Each request in flight needs a connection.
    tutti::http::raise_open_files_limit();
    let client = Client::new(requests)?;
    let different = client.different_texts();
    if different < MANY_TEXTS {
        eprintln!(
            "warning: only {different} different texts; identical ones in flight are translated once, so the capacity \
             is overestimated: use --texts with at least {MANY_TEXTS} different lines"
        );
    }
    let rounds = (0..arguments.rounds).map(|_| Round::run(arguments, &client)).collect::<Result<Vec<_>>>()?;
    let verdict = Verdict::of(&rounds, bound_ms(requests))?;
    if requests.json {
        let rounds: Vec<_> = rounds.iter().map(Round::to_json).collect();
        println!("{}", json!({ "rounds": rounds, "verdict": verdict.to_json() }));
    } else {
        println!("{verdict}");
    }
    let late = verdict.sent_late_ms;
    ensure!(late <= CLIENT_MS, "this generator sent {late:.0} ms late (p99): give it a core of its own");
    ensure!(
        verdict.worst.is_some(),
        "in most rounds the capacity changed by more than {:.0} % while a share was sent; end other programs, or \
         measure more rounds",
        MOST_DRIFT * 100.0
    );
    ensure!(verdict.holds(), "the server does too little, too slowly or fails under overload");
    Ok(())
}

/// The goodput at a share of the capacity. Capacities and goodput are translations per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Goodput {
    /// Of the capacity before.
    share: f64,
    before: f64,
    after: f64,
    goodput: f64,
}

impl Goodput {
    fn capacity(&self) -> f64 {
        (self.before + self.after) / 2.0
    }

    /// What was sent, as a part of the capacity.
    fn sent(&self) -> f64 {
        self.share * self.before / self.capacity()
    }

    /// What was translated, as a part of the capacity.
    fn part(&self) -> f64 {
        self.goodput / self.capacity()
    }

    fn least(&self) -> f64 {
        least_goodput(self.sent())
    }

    fn margin(&self) -> f64 {
        self.part() - self.least()
    }

    /// What a refusal cost if the server was always busy, as a part of a translation.
    fn refusal_cost(&self) -> f64 {
        (1.0 - self.part()) / (self.sent() - self.part())
    }

    /// How much the capacity changed meanwhile, as a part of it.
    fn drift(&self) -> f64 {
        (self.after - self.before) / self.capacity()
    }

    fn to_json(self) -> Value {
        json!({
            "share": self.share, "capacity_before": self.before, "capacity_after": self.after,
            "sent_of_capacity": self.sent(), "goodput_of_capacity": self.part(), "least_goodput": self.least(),
            "refusal_cost": self.refusal_cost(),
        })
    }
}

/// The median of the steady rounds for each judged share; of these, the one that is furthest below its least goodput,
/// or nearest to it. `None` if fewer than half of the rounds are steady for some share.
fn worst(rounds: &[Vec<Goodput>]) -> Option<Goodput> {
    let by_margin = |a: &Goodput, b: &Goodput| a.margin().total_cmp(&b.margin());
    let median = |index: usize| {
        let of_share = rounds.iter().map(|round| round[index]);
        let mut steady: Vec<Goodput> = of_share.filter(|one| one.drift().abs() <= MOST_DRIFT).collect();
        steady.sort_by(by_margin);
        let middle = steady.len().checked_sub(1)? / 2;
        (2 * steady.len() >= rounds.len()).then(|| steady[middle])
    };
    let first = rounds.first()?;
    let judged = (0..first.len()).filter(|&index| first[index].share >= LEAST_JUDGED);
    judged.map(median).collect::<Option<Vec<_>>>()?.into_iter().min_by(by_margin)
}

/// All shares, with the capacity before and after each.
struct Round(Vec<(Goodput, Report)>);

impl Round {
    fn run(arguments: &Overload, client: &Client) -> Result<Self> {
        let Overload { requests, duration, .. } = arguments;
        let warm_up = Duration::from_secs_f64(WARM_UP * duration);
        let capacity = || -> Result<f64> {
            if let Some(capacity) = arguments.capacity {
                return Ok(capacity);
            }
            let counted = warm_up..warm_up + Duration::from_secs_f64(*duration);
            let measured = client.saturate(arguments.callers, counted)?;
            ensure!(measured.goodput() > 0.0, "nothing was translated: {measured}");
            Ok(measured.goodput())
        };
        if !requests.json {
            print_header();
        }
        let mut runs = Vec::new();
        let mut before = capacity()?;
        for &share in &arguments.shares {
            let plan =
                LoadPlan::poisson(requests, client.texts(), share * before, (1.0 + WARM_UP) * duration)?;
            let report = client.send_all(&LoadPlan { warm_up, ..plan })?;
            let after = capacity()?;
            let goodput = Goodput { share, before, after, goodput: report.goodput() };
            if !requests.json {
                print(goodput, &report)?;
            }
            runs.push((goodput, report));
            before = after;
        }
        Ok(Self(runs))
    }

    fn to_json(&self) -> Value {
        let run = |(goodput, report): &(Goodput, Report)| {
            let (goodput, report) = (goodput.to_json(), report.to_json());
            json!({ "goodput": goodput, "report": report })
        };
        self.0.iter().map(run).collect()
    }
}

/// What an accepted request may take.
fn bound_ms(requests: &Requests) -> f64 {
    requests.deadline_ms.map_or(requests.timeout * 1000.0, |deadline| deadline as f64 + CLIENT_MS)
}

fn print_header() {
    println!(
        "{:>6} {:>10} {:>6} {:>8} {:>8} {:>9} {:>7} {:>7} {:>7} {:>5} {:>8} {:>8} {:>8} {:>9}",
        "share",
        "capacity/s",
        "drift",
        "asked/s",
        "sent",
        "goodput/s",
        "of cap.",
        "429+503",
        "failed",
        "504",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "late p99"
    );
}

fn print(goodput: Goodput, report: &Report) -> Result<()> {
    println!(
        "{:>5.0}% {:>10.1} {:>5.0}% {:>8.1} {:>8} {:>9.1} {:>6.1}% {:>7} {:>7} {:>5} {:>8.2} {:>8.2} {:>8.2} {:>9.2}",
        goodput.share * 100.0,
        goodput.capacity(),
        goodput.drift() * 100.0,
        report.rate().unwrap_or(0.0),
        report.sent(),
        goodput.goodput,
        goodput.part() * 100.0,
        report.status(429) + report.status(503),
        report.failed(),
        report.status(504),
        report.latency_ms(0.5)?,
        report.latency_ms(0.9)?,
        report.latency_ms(0.99)?,
        report.late_ms(0.99),
    );
    Ok(())
}

/// What the rounds say together.
struct Verdict {
    /// `None` if too few rounds are steady.
    worst: Option<Goodput>,
    failed: u64,
    /// Of the failed ones, those that were answered with 504 after their deadline.
    after_deadline: u64,
    p99_ms: f64,
    bound_ms: f64,
    /// How late this generator sent: the worst p99.
    sent_late_ms: f64,
}

impl Verdict {
    fn of(rounds: &[Round], bound_ms: f64) -> Result<Self> {
        let goodput: Vec<Vec<Goodput>> =
            rounds.iter().map(|Round(runs)| runs.iter().map(|(goodput, _)| *goodput).collect()).collect();
        let worst = worst(&goodput);
        let (failed, after_deadline, p99_ms, sent_late_ms) = (0, 0, 0.0, 0.0);
        let mut verdict = Self { worst, failed, after_deadline, p99_ms, bound_ms, sent_late_ms };
        for (_, run) in rounds.iter().flat_map(|Round(runs)| runs) {
            verdict.failed += run.failed();
            verdict.after_deadline += run.status(504);
            verdict.p99_ms = verdict.p99_ms.max(run.latency_ms(0.99)?);
            verdict.sent_late_ms = verdict.sent_late_ms.max(run.late_ms(0.99));
        }
        Ok(verdict)
    }

    fn holds(&self) -> bool {
        self.worst.is_some_and(|worst| worst.margin() >= 0.0)
            && self.failed == 0
            && self.p99_ms <= self.bound_ms
    }

    fn to_json(&self) -> Value {
        json!({
            "holds": self.holds(), "worst": self.worst.map(Goodput::to_json), "failed": self.failed,
            "after_deadline": self.after_deadline, "p99_ms": self.p99_ms, "bound_ms": self.bound_ms,
            "sent_late_ms": self.sent_late_ms,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", if self.holds() { "holds" } else { "DOES NOT HOLD" })?;
        match &self.worst {
            Some(worst) => write!(
                f,
                "in the median round of the worst share, {:.0} % of the capacity were sent and {:.1} % of it translated \
                 (at least {:.1} %): a refusal costs {:.1} % of a translation; ",
                worst.sent() * 100.0,
                worst.part() * 100.0,
                worst.least() * 100.0,
                worst.refusal_cost() * 100.0,
            )?,
            None => write!(f, "too few steady rounds to judge what was translated; ")?,
        }
        write!(
            f,
            "{} failed (none), {} of them after their deadline; worst p99 {:.0} ms (at most {:.0} ms)",
            self.failed, self.after_deadline, self.p99_ms, self.bound_ms,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(share: f64, goodput: f64) -> Goodput {
        Goodput { share, before: 600.0, after: 600.0, goodput: 600.0 * goodput }
    }

    #[test]
    fn the_least_goodput_is_what_refusals_of_the_allowed_cost_leave() {
        for (share, least) in [(0.9, 1.0), (1.0, 1.0), (2.0, 0.947), (5.0, 0.789), (30.0, 0.0)] {
            assert!((least_goodput(share) - least).abs() < 1e-3, "{share}: {}", least_goodput(share));
        }
        for share in [2.0, 5.0] {
            let exact = steady(share, least_goodput(share));
            assert!((exact.refusal_cost() - REFUSAL_COST).abs() < 1e-9 && exact.margin().abs() < 1e-9);
        }
    }

    /// The machine loses two fifths of its pace after the capacity was measured; the server is as good as before.
    #[test]
    fn a_change_of_pace_is_no_fault_of_the_server() {
        let (before, after) = (600.0, 360.0);
        let goodput = after * least_goodput(2.0 * before / after);
        assert!(goodput / before < 0.6, "compared with the capacity before alone, it looks bad");
        let changed = Goodput { share: 2.0, before, after, goodput };
        assert_eq!((changed.capacity(), changed.sent()), (480.0, 2.5));
        assert_eq!(worst(&[vec![changed]]), None, "the capacity at that time is not known");
        let good = steady(2.0, 0.95);
        assert_eq!(worst(&[vec![changed], vec![good], vec![good]]), Some(good));
        assert_eq!(worst(&[vec![changed], vec![changed], vec![good]]), None);
        let slow = Goodput { share: 2.0 * before / after, before: after, ..changed };
        assert!(slow.margin().abs() < 1e-9, "compared with the right capacity, it is what is required");
    }

    #[test]
    fn the_verdict_is_the_median_round_of_the_worst_share() {
        let round = |two: f64, five: f64| vec![steady(0.5, 0.5), steady(2.0, two), steady(5.0, five)];
        let rounds = [round(0.56, 0.8), round(0.97, 0.85), round(0.96, 0.9)];
        assert_eq!(worst(&rounds), Some(steady(2.0, 0.96)));
        // At five times the capacity 80 % is enough; at twice the capacity 90 % is not.
        assert_eq!(worst(&[round(0.9, 0.8)]), Some(steady(2.0, 0.9)));
        assert_eq!(worst(&[round(0.99, 0.8)]), Some(steady(5.0, 0.8)));
        let two = [round(0.99, 0.9), round(0.9, 0.9)];
        assert_eq!(worst(&two), Some(steady(2.0, 0.9)), "of two, the worse one");
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[vec![steady(0.8, 0.8)]]), None);
    }
}
