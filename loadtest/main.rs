//! A load generator for a running server:
//!
//! * by default, an open loop: requests are sent at the times of a Poisson process, whether or not earlier ones
//!   have been answered. A latency counts from the time at which the request was due, so it grows if the server
//!   is too slow. A closed loop would send more slowly and hide that (coordinated omission);
//! * `overhead`: one request at a time, and the part of its latency that is not the engine's;
//! * `overload`: sends shares of the capacity in the open loop, and measures the capacity before and after each;
//! * `autoscale`: simulates pods whose number Kubernetes' autoscaler decides, under the load of a day;
//! * `fuzz`: sends many broken requests;
//! * `rolling`: restarts three servers behind nginx one by one, then kills them;
//! * `restarts`: sends SIGTERM under load, repeatedly, and checks that no request is lost;
//! * `soak`: runs the open loop for a long time and checks whether the server's memory grows.
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
    about = "Puts load on a tutti server and reports how it answers",
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
    /// Sends shares of the capacity, which it measures before and after each.
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
