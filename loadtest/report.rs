//! What became of the requests of one run.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::load::Done;

pub struct Report {
    /// Requests a second that were to be sent; none in a closed loop.
    rate: Option<f64>,
    /// From the start of the run: answers in this time are the goodput.
    counted: Range<Duration>,
    /// 2xx in that time.
    good: u64,
    /// The end of the last answer.
    elapsed: Duration,
    /// Answers with 2xx, in microseconds, by steps; 0 stands for the server's default.
    latencies: BTreeMap<u8, Histogram<u64>>,
    late: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Waits until every sender is gone.
    pub fn collect(
        mut receiver: UnboundedReceiver<Done>,
        rate: Option<f64>,
        counted: Range<Duration>,
    ) -> Result<Self> {
        let mut report = Self {
            rate,
            counted,
            good: 0,
            elapsed: Duration::ZERO,
            latencies: BTreeMap::new(),
            late: histogram()?,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        while let Some(done) = receiver.blocking_recv() {
            report.add(&done)?;
        }
        Ok(report)
    }

    fn add(&mut self, done: &Done) -> Result<()> {
        self.elapsed = self.elapsed.max(done.at);
        self.late.record(micros(done.late))?;
        match done.ended {
            Ok(status) => {
                *self.statuses.entry(status).or_default() += 1;
                if (200..300).contains(&status) {
                    self.good += u64::from(self.counted.contains(&done.at));
                    let steps = done.steps.unwrap_or(0);
                    let histogram = match self.latencies.entry(steps) {
                        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::btree_map::Entry::Vacant(entry) => entry.insert(histogram()?),
                    };
                    histogram.record(micros(done.latency))?;
                }
            }
            Err(kind) => *self.errors.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    pub fn sent(&self) -> u64 {
        self.late.len()
    }

    /// Requests that ended with this status.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    pub fn answered(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    /// Requests that were neither translated nor turned away in good order (429, 503).
    pub fn failed(&self) -> u64 {
        self.sent() - self.answered() - self.status(429) - self.status(503)
    }

    /// Translations per second that came out in the counted time.
    pub fn goodput(&self) -> f64 {
        self.good as f64 / (self.counted.end - self.counted.start).as_secs_f64()
    }

    /// Of 2xx, whatever the steps, in milliseconds.
    pub fn latency_ms(&self, quantile: f64) -> Result<f64> {
        let mut all = histogram()?;
        for latencies in self.latencies.values() {
            all.add(latencies)?;
        }
        Ok(ms(all.value_at_quantile(quantile)))
    }

    /// How late the generator was, in milliseconds.
    pub fn late_ms(&self, quantile: f64) -> f64 {
        ms(self.late.value_at_quantile(quantile))
    }

    pub fn to_json(&self) -> Value {
        let latencies: BTreeMap<String, Value> =
            self.latencies.iter().map(|(&steps, histogram)| (name(steps), quantiles_ms(histogram))).collect();
        json!({
            "rate_asked_per_second": self.rate,
            "rate_answered_per_second": self.goodput(),
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "sent": self.sent(),
            "statuses": self.statuses,
            "errors": self.errors,
            "latency_ms_by_steps": latencies,
            "sent_late_ms": quantiles_ms(&self.late),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.rate.map(|rate| format!("{rate:.1}/s asked, ")).unwrap_or_default();
        writeln!(
            f,
            "{} requests in {:.1} s: {asked}{:.1}/s answered",
            self.sent(),
            self.elapsed.as_secs_f64(),
            self.goodput()
        )?;
        for (status, count) in &self.statuses {
            writeln!(f, "  status {status}: {count}")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  {kind}: {count}")?;
        }
        writeln!(f, "\nlatency from the intended send time, milliseconds (2xx only)")?;
        writeln!(
            f,
            "{:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "steps", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (&steps, histogram) in &self.latencies {
            row(f, &name(steps), histogram)?;
        }
        writeln!(f, "\nhow late this generator sent (trust no latency below it)")?;
        row(f, "", &self.late)
    }
}

pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// What a histogram is fed with.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

pub fn quantiles_ms(histogram: &Histogram<u64>) -> Value {
    let at = |q| ms(histogram.value_at_quantile(q));
    json!({
        "count": histogram.len(), "mean": histogram.mean() / 1000.0,
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": ms(histogram.max()),
    })
}

fn name(steps: u8) -> String {
    if steps == 0 { "default".to_owned() } else { steps.to_string() }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram<u64>) -> fmt::Result {
    let at = |q| ms(histogram.value_at_quantile(q));
    writeln!(
        f,
        "{name:>8} {:>8} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        histogram.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        ms(histogram.max())
    )
}
