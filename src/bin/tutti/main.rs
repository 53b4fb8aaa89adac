//! The server and its tools: `tutti [serve]`, `translate`, `bench`, `check`, `health`. Thin: everything
//! that can be tested without a command line lives in the library.

mod bench;

use std::io::{self, ErrorKind, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, Translator};
use tutti::engine::{self, Engine};
use tutti::http::{self, App, Model, Pair};
use tutti::lines::translate_lines;
use tutti::metrics::Metrics;
use tutti::model::{Backend, Bundle, DeviceChoice, DtypeChoice};
use tutti::settings::{ENV_CONFIG, LogFormat, Settings, one_for_each_core};
use tutti::suggest::renamed_arguments;

/// HTTP is a small part of the work, some tenth of what eight cores translate; the cores belong to the
/// model. Threads that are not needed cost: one that wakes up wakes the next one to listen in its place.
const CORES_FOR_AN_HTTP_THREAD: usize = 8;

/// How long `health` waits. Containers have a limit of their own for it.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// Translation server with parallel decoding. Without a command it serves.
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
    Translate(Translate),
    /// Measure the engine without HTTP.
    Bench(bench::Bench),
    /// Check settings and model without serving.
    Check(Serve),
    /// Check whether the server with these settings is ready; for containers without curl.
    Health(Serve),
}

#[derive(Args)]
struct Serve {
    /// TOML file; config/server.toml describes every key.
    #[arg(long, env = ENV_CONFIG)]
    config: Option<PathBuf>,
    /// Address to listen on, host:port [default: 127.0.0.1:8080]
    #[arg(long)]
    listen: Option<String>,
    /// Folder of the bundle [default: models/en-de]
    #[arg(long)]
    model: Option<String>,
    /// Number of compute threads; 0 for one for each core [default: 0]
    #[arg(long)]
    threads: Option<String>,
    /// auto, cpu or cuda:0; auto is a GPU if a suitable one is found [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// auto, q8 (eight bits, CPU), bf16, f16 (GPU) or f32; auto is q8 or bf16 [default: auto]
    #[arg(long)]
    dtype: Option<String>,
    /// Format of the log: text or json [default: text]
    #[arg(long)]
    log_format: Option<String>,
    /// Ignore the bundle's shortlist and use the whole vocabulary.
    #[arg(long)]
    no_shortlist: bool,
    /// Ignore the bundle's language model.
    #[arg(long)]
    no_lm: bool,
    /// Set any key of the TOML file, as in --set max_steps=4; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Where a network computes, and in what.
#[derive(Args)]
struct BackendArgs {
    /// auto, cpu or cuda:0; auto is a GPU if a suitable one is found.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// auto, q8 (eight bits, CPU), bf16, f16 (GPU) or f32; auto is q8 or bf16.
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    /// Ignore the bundle's shortlist and use the whole vocabulary.
    #[arg(long)]
    no_shortlist: bool,
    /// Ignore the bundle's language model.
    #[arg(long)]
    no_lm: bool,
}

impl BackendArgs {
    fn backend(&self) -> Result<Backend> {
        Ok(Backend::choose(self.device, self.dtype)?.with_shortlist(!self.no_shortlist).with_lm(!self.no_lm))
    }
}

#[derive(Args)]
struct Translate {
    /// Folder of the bundle.
    #[arg(long, env = "TUTTI_MODEL", default_value = "models/en-de")]
    model: PathBuf,
    /// Number of decoder passes [default: the model's].
    #[arg(long)]
    steps: Option<u8>,
    /// Number of target lengths to try [default: the model's].
    #[arg(long)]
    length_beam: Option<usize>,
    /// Padded tokens of a batch, on either side.
    #[arg(long, alias = "max-batch-tokens", default_value_t = 4096)]
    batch_tokens: usize,
    /// Number of compute threads; 0 for one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    on: BackendArgs,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    for warning in renamed_arguments(std::env::args(), &[("--max-batch-tokens", "--batch-tokens")]) {
        eprintln!("warning: {warning}");
    }
    match cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Translate(arguments)) => translate(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        Some(Command::Check(arguments)) => check(&arguments),
        Some(Command::Health(arguments)) => health(&arguments),
    }
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
        for (key, off) in [("shortlist", self.no_shortlist), ("lm", self.no_lm)] {
            flags.extend(off.then(|| (key.to_owned(), "false".to_owned())));
        }
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=').with_context(|| format!("--set {pair}: not KEY=VALUE"))?;
            flags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        // Ours are Unicode.
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
        // Before the model is loaded: a signal ends that too, and a port in use is reported immediately.
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
    tracing::info!("drained and stopped");
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
    let bundle = Bundle::open(&settings.model)?;
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
        // The receiver is gone if the server has already stopped.
        let _ = first.send(());
        next().await;
        tracing::warn!("second signal: stopping now");
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

fn translate(arguments: &Translate) -> Result<()> {
    let threads = compute_threads(arguments.threads).get();
    // This thread is one of them.
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;
    let bundle = Bundle::open(&arguments.model)?;
    let most = bundle.config.max_steps;
    let steps = arguments.steps.unwrap_or(bundle.config.default_steps);
    ensure!((1..=most).contains(&steps), "--steps must be 1 to {most} for {}", bundle.name);
    ensure!(arguments.length_beam != Some(0), "--length-beam must be at least 1");
    let steps = Steps::new(steps).context("--steps must be at least 1")?;
    let network = InferenceModel::open(&bundle, &arguments.on.backend()?)?;
    let options = DecodeOptions {
        length_beam: arguments.length_beam.unwrap_or_else(|| network.limits().usual_beam()),
        max_batch_tokens: arguments.batch_tokens,
        ..DecodeOptions::new(steps)
    };
    match translate_lines(io::stdin().lock(), io::stdout().lock(), &network, &bundle.reader(), &options) {
        // `| head` has seen enough.
        Err(tutti::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}
