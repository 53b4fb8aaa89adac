//! The server and its tools: `tutti [serve]`, `translate`, `bench`, `check`, `health`, `completions`, `man`.
//! Thin: everything that can be tested without a command line lives in the library.

mod bench;
mod manual;
mod model;
mod translate;

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tutti::decode::{InferenceModel, Steps};
use tutti::engine::{self, Engine};
use tutti::http::{self, App, Model, Pair};
use tutti::metrics::Metrics;
use tutti::model::{Backend, DeviceChoice, DtypeChoice};
use tutti::settings::{self, ENV_CONFIG, LogFormat, Settings, one_for_each_core};

/// HTTP is a small part of the work, some tenth of what eight cores translate; the cores belong to the
/// model. Threads that are not needed cost: one that wakes up wakes the next one to listen in its place.
const CORES_FOR_AN_HTTP_THREAD: usize = 8;

/// How long `health` waits; whoever asks for it has a limit of its own.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// Translates, with as many refinement steps as you ask for. Without a command it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve translations over HTTP.
    Serve(Serve),
    /// Translate standard input to standard output, line by line.
    Translate(translate::Translate),
    /// Measure the engine without HTTP.
    Bench(bench::Bench),
    /// Say whether settings and model hold, without serving.
    Check(Serve),
    /// Ask the server that runs with these settings whether it is ready; for containers without curl.
    Health(Serve),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Print the manual page, or write one for each command.
    Man(manual::Man),
}

#[derive(Args)]
#[command(after_long_help = settings::reference())]
struct Serve {
    /// A TOML file; config/server.toml shows every key.
    #[arg(long, env = ENV_CONFIG)]
    config: Option<PathBuf>,
    /// host:port [default: 127.0.0.1:8080]
    #[arg(long, conflicts_with_all = ["host", "port"])]
    listen: Option<String>,
    /// The host of --listen alone; 0.0.0.0 to be reached from other machines.
    #[arg(long)]
    host: Option<String>,
    /// The port of --listen alone.
    #[arg(long)]
    port: Option<u16>,
    /// A bundle's folder [default: the model that is built in]
    #[arg(long)]
    model: Option<String>,
    /// Threads that compute; 0 means one for each core.
    #[arg(long)]
    threads: Option<String>,
    /// auto, cpu or cuda:0 [default: auto, a GPU if there is one that will do]
    #[arg(long)]
    device: Option<String>,
    /// auto, q8 (eight bits, CPU), bf16, f16 (GPU) or f32 [default: auto, q8 or bf16]
    #[arg(long)]
    dtype: Option<String>,
    /// text or json
    #[arg(long)]
    log_format: Option<String>,
    /// Any other key of the TOML file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Where a network computes, and in what.
#[derive(Args)]
struct BackendArgs {
    /// auto, cpu or cuda:0; auto is a GPU if there is one that will do.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// auto, q8 (eight bits, CPU), bf16, f16 (GPU) or f32; auto is q8 or bf16.
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    /// Choose among the whole vocabulary, whatever shortlist the bundle has.
    #[arg(long)]
    no_shortlist: bool,
    /// Read an imputer's slots alone, whatever language model the bundle has.
    #[arg(long)]
    no_lm: bool,
}

impl BackendArgs {
    fn backend(&self) -> Result<Backend> {
        Ok(Backend::choose(self.device, self.dtype)?.with_shortlist(!self.no_shortlist).with_lm(!self.no_lm))
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        // One line, and never a backtrace: what fails here is most often a setting or a file.
        Err(error) => {
            eprintln!("tutti: {}", tutti::error::in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Translate(arguments)) => return translate::run(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Check(arguments)) => check(&arguments),
        Some(Command::Health(arguments)) => health(&arguments),
        Some(Command::Completions(arguments)) => manual::completions(Cli::command(), &arguments),
        Some(Command::Man(arguments)) => manual::man(Cli::command(), &arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl Serve {
    fn settings(&self) -> Result<Settings> {
        let named = [
            ("listen", &self.listen),
            ("model", &self.model),
            ("threads", &self.threads),
            ("device", &self.device),
            ("dtype", &self.dtype),
            ("log_format", &self.log_format),
        ];
        let mut flags: Vec<(String, String)> =
            named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
        flags.extend(self.host.clone().map(|host| (settings::HOST.to_owned(), host)));
        flags.extend(self.port.map(|port| (settings::PORT.to_owned(), port.to_string())));
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=').with_context(|| format!("--set {pair}: not KEY=VALUE"))?;
            flags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        // A name or value that is not Unicode is none of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Settings::load(self.config.as_deref(), environment, flags)?)
    }
}

fn serve(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    start_log(&settings)?;
    let http_threads = one_for_each_core().get().div_ceil(CORES_FOR_AN_HTTP_THREAD);
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), http_threads, "starting");
    tracing::info!("settings\n{}", settings.to_toml());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(http_threads).enable_all().build()?;
    let served = runtime.block_on(async {
        // Before the model is loaded: a signal must end that as well, and a taken port be told at once.
        let shutdown = shutdown_signal()?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        let (app, _engine) = open(&settings)?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        anyhow::Ok(http::serve(listener, app, shutdown).await?)
    });
    runtime.shutdown_background();
    served?;
    tracing::info!("ended in good order");
    Ok(())
}

fn check(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    let (app, engine) = open(&settings)?;
    engine.join()?;
    println!(
        "{}# model {}: {} to {}, {}",
        settings.to_toml(),
        app.model.name,
        app.model.pair.source,
        app.model.pair.target,
        app.model.checksum
    );
    Ok(())
}

fn health(arguments: &Serve) -> Result<()> {
    let server = arguments.settings()?.listen;
    http::healthcheck(server, "/readyz", HEALTH_PATIENCE).with_context(|| format!("{server} is not ready"))
}

/// From settings to everything that serves but the listener.
fn open(settings: &Settings) -> Result<(App, Engine)> {
    let backend = Backend::choose(settings.device, settings.dtype)?
        .with_shortlist(settings.shortlist)
        .with_lm(settings.lm);
    match backend.cpu_fallback_reason() {
        Some(reason) => tracing::info!(reason, "computing {backend}, not on a GPU"),
        None => tracing::info!("computing {backend}"),
    }
    let bundle = model::open(Some(&settings.model))?;
    let steps = |steps| Steps::new(steps).context("a bundle allows at least one step");
    let mut model = Model {
        name: bundle.name.clone(),
        pair: Pair { source: bundle.config.source.clone(), target: bundle.config.target.clone() },
        checksum: bundle.checksum.clone(),
        dtype: backend.dtype().name().to_owned(),
        device: backend.device_name(),
        cpu_fallback_reason: backend.cpu_fallback_reason().map(str::to_owned),
        shortlist: false,
        lm: false,
        default_steps: steps(bundle.config.default_steps)?,
        max_steps: steps(bundle.config.max_steps)?,
        scores: bundle.config.scores.clone(),
        tokenizer: bundle.tokenizer.clone(),
    };
    let metrics = Metrics::new();
    let network = InferenceModel::open(&bundle, &backend)?;
    (model.shortlist, model.lm) = (network.has_shortlist(), network.has_lm());
    if let Some(gpu) = network.gpu_report() {
        tracing::info!(gpu, "warmed up");
    }
    let engine_metrics = metrics.engine(&model.name);
    if network.halvings() > 0 {
        let halvings = network.halvings();
        tracing::warn!(halvings, "the device has little free memory: large batches are computed in parts");
        engine_metrics.out_of_memory(halvings);
    }
    let options = settings.engine.clone().fitted(network.device_rows());
    let engine::Options { max_batch_tokens, max_batch_rows, lookahead, .. } = options;
    tracing::info!(max_batch_tokens, max_batch_rows, lookahead, "bounds of a batch");
    let engine = engine::start(network, options, engine_metrics)?;
    Ok((App::new(model, engine.handle(), settings.http.clone(), metrics), engine))
}

/// Resolves at the first SIGTERM or SIGINT; the second one ends the process on the spot.
fn shutdown_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, shutdown) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        next().await;
        // Nobody listens if the server ended by itself meanwhile.
        let _ = first.send(());
        next().await;
        tracing::warn!("second signal: ending at once");
        std::process::exit(1);
    });
    Ok(async move {
        let _ = shutdown.await;
    })
}

fn start_log(settings: &Settings) -> Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&settings.log)?)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

/// One thread for each core in place of 0.
fn compute_threads(threads: usize) -> NonZeroUsize {
    NonZeroUsize::new(threads).unwrap_or_else(one_for_each_core)
}
