//! The server and its tools: `tutti [serve]`, `translate`, `bench`, `check`, `health`. Thin: everything
//! that can be tested without a command line lives in the library.

mod bench;
mod load;

use std::io::{self, ErrorKind, IsTerminal};
use std::net::SocketAddr;
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
use tutti::http::{self, Listeners, Model, Models};
use tutti::lines::translate_lines;
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
    /// Make an API key: the key on standard output, the entry for the file of keys on standard error.
    Key {
        /// What logs call its owner.
        name: String,
    },
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
    /// host:port for probes and metrics, apart from the load [default: none]
    #[arg(long)]
    admin_listen: Option<String>,
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
        Some(Command::Key { name }) => new_key(&name),
    }
}

impl Serve {
    fn settings(&self) -> Result<Settings> {
        let named = [
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
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
    let open_files = http::raise_open_files_limit();
    tracing::info!(open_files, "limits");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(http_threads).enable_all().build()?;
    let served = runtime.block_on(async {
        // Before the model is loaded: a signal ends that too, and a port in use is reported immediately.
        let shutdown = shutdown_signal()?;
        let public = listen(settings.listen).await?;
        let admin = match settings.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let models = load::open(&settings)?;
        reload_at_hangup(models.clone())?;
        if let Some(admin) = &admin {
            tracing::info!(admin_address = %admin.local_addr()?, "listening for probes and metrics");
        }
        tracing::info!(address = %public.local_addr()?, "listening");
        anyhow::Ok(http::serve(Listeners { public, admin }, models, shutdown).await?)
    });
    runtime.shutdown_background();
    served?;
    tracing::info!("drained and stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn check(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    let models = load::open(&settings)?;
    print!("{}", settings.to_toml());
    for app in models.all() {
        let Model { name, pair, checksum, .. } = &app.model;
        println!("# model {name}: {} to {}, {checksum}", pair.source, pair.target);
        app.engine.drain();
    }
    Ok(())
}

fn health(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    let server = settings.admin_listen.unwrap_or(settings.listen);
    http::healthcheck(server, "/readyz", HEALTH_PATIENCE).with_context(|| format!("{server} is not ready"))
}

fn new_key(name: &str) -> Result<()> {
    let (key, entry) = http::new_key(name);
    println!("{key}");
    eprint!("{entry}");
    Ok(())
}

/// At each SIGHUP keys and models are read again; what cannot be read stays as it was.
fn reload_at_hangup(models: Models) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reading keys and models again");
            match models.first().keys.as_ref().map(|keys| keys.reload()) {
                None => {}
                Some(Ok(count)) => tracing::info!(count, "API keys were read again"),
                Some(Err(error)) => tracing::error!(%error, "the API keys stay as they were"),
            }
            for app in models.all() {
                let name = &app.model.name;
                match models.reload(name).await {
                    Ok(()) => tracing::info!(name, "the model was loaded again"),
                    Err(error) => tracing::error!(%error, name, "the model stays as it was"),
                }
            }
        }
    });
    Ok(())
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
