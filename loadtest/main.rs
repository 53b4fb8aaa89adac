//! A load generator for a running server. What it can do:
//!
//! * by default, an open loop: requests leave when a Poisson process says so, whether or not earlier
//!   ones have been answered, and a latency counts from the moment at which the request was *meant* to
//!   leave. So a server that falls behind shows it, where a closed loop would just ask more slowly
//!   (coordinated omission);
//! * `overhead`: one request at a time, and what of its time the engine did not need;
//! * `overload`: the capacity, then the open loop at shares of it, twice the capacity among them;
//! * `autoscale`: a day's load on pods whose number Kubernetes' autoscaler decides, simulated;
//! * `fuzz`: broken requests in great number;
//! * `rolling`: three servers behind nginx, restarted one by one, then killed;
//! * `restarts`: SIGTERM under load, again and again, and whether a request was lost;
//! * `soak`: the open loop for long, and whether the server's memory grows.
//!
//! ```text
//! cargo run --release --example loadtest -- --texts FILE --rate 50 --duration 30 --steps 1,4
//! cargo run --release --example loadtest -- overload --steps 1
//! ```
//!
//! Without `--texts` some built-in sentences are sent.

mod autoscale;
mod fuzz;
mod load;
mod overhead;
mod overload;
mod report;
mod restarts;
mod rolling;
mod scrape;
mod server;
mod soak;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::load::{Client, LoadPlan};

#[derive(Parser)]
#[command(
    about = "Puts load on a tutti server and reports how it bears it",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    open: Open,
}

#[derive(Subcommand)]
enum Mode {
    /// Simulates a day's load on pods that are scaled by different metrics: latency and cost of each.
    Autoscale(autoscale::Autoscale),
    /// Sends broken requests in great number: the server must neither fail nor end.
    Fuzz(fuzz::Fuzz),
    /// One request at a time: how much time the server adds to its engine's.
    Overhead(overhead::Overhead),
    /// Measures the capacity, then sends shares of it.
    Overload(overload::Overload),
    /// Ends a server with SIGTERM again and again under load: no request that was sent may be lost.
    Restarts(restarts::Restarts),
    /// Restarts and kills servers behind nginx under load: no request may fail.
    Rolling(rolling::Rolling),
    /// Sends at a fixed rate for long and watches the server's memory.
    Soak(soak::Soak),
}

/// Where requests go and what they say.
#[derive(Args, Clone)]
struct Requests {
    #[arg(long, default_value = "http://127.0.0.1:8080/translate")]
    url: String,
    /// One text a line; drawn uniformly.
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Drawn uniformly for each request; without it the server's default.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<u8>,
    #[arg(long, default_value = "en")]
    source: String,
    #[arg(long, default_value = "de")]
    target: String,
    /// Milliseconds in which the server must answer or refuse; without it the server's own limit.
    #[arg(long)]
    deadline_ms: Option<u64>,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Of arrivals, texts and steps.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// The open loop at one rate.
#[derive(Args)]
struct Open {
    #[command(flatten)]
    requests: Requests,
    /// Requests per second, on average.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds in which requests leave.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.mode {
        None => open(&cli.open),
        Some(Mode::Autoscale(arguments)) => autoscale::run(&arguments),
        Some(Mode::Fuzz(arguments)) => fuzz::run(&arguments),
        Some(Mode::Overhead(arguments)) => overhead::run(&arguments),
        Some(Mode::Overload(arguments)) => overload::run(&arguments),
        Some(Mode::Restarts(arguments)) => restarts::run(&arguments),
        Some(Mode::Rolling(arguments)) => rolling::run(&arguments),
        Some(Mode::Soak(arguments)) => soak::run(&arguments),
    }
}

fn open(arguments: &Open) -> Result<()> {
    let client = Client::new(&arguments.requests)?;
    let plan = LoadPlan::poisson(&arguments.requests, client.texts(), arguments.rate, arguments.duration)?;
    let report = client.send_all(&plan)?;
    if arguments.requests.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(())
}
