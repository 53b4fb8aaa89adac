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
    Translate(Translate),
    /// Measure the engine without HTTP.
    Bench(bench::Bench),
    /// Say whether settings and model hold, without serving.
    Check(Serve),
    /// Make an API key: the key on standard output, the entry for the file of keys on standard error.
    Key {
        /// What logs call its owner.
        name: String,
    },
    /// Ask the server that runs with these settings whether it is ready; for containers without curl.
    Health(Serve),
}

#[derive(Args)]
struct Serve {
    /// A TOML file; config/server.toml shows every key.
    #[arg(long, env = ENV_CONFIG)]
    config: Option<PathBuf>,
    /// host:port [default: 127.0.0.1:8080]
    #[arg(long)]
    listen: Option<String>,
    /// host:port for probes and metrics, apart from the load [default: none]
    #[arg(long)]
    admin_listen: Option<String>,
    /// A bundle's folder [default: models/en-de]
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

#[derive(Args)]
struct Translate {
    /// A bundle's folder.
    #[arg(long, env = "TUTTI_MODEL", default_value = "models/en-de")]
    model: PathBuf,
    /// Refinement steps; the model's default if not given.
    #[arg(long)]
    steps: Option<u8>,
    /// How many target lengths are tried; what is usual with the model if not given.
    #[arg(long)]
    length_beam: Option<usize>,
    /// Padded tokens of a batch, on either side.
    #[arg(long, default_value_t = 4096)]
    max_batch_tokens: usize,
    /// Threads that compute; 0 means one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    on: BackendArgs,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
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
    let open_files = http::raise_open_files_limit();
    tracing::info!(open_files, "limits");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(http_threads).enable_all().build()?;
    let served = runtime.block_on(async {
        // Before the model is loaded: a signal must end that as well, and a taken port be told at once.
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
    tracing::info!("ended in good order");
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
    http::healthcheck(server, "/readyz", HEALTH_PATIENCE).with_context(|| format!("{server} is not well"))
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
        max_batch_tokens: arguments.max_batch_tokens,
        ..DecodeOptions::new(steps)
    };
    match translate_lines(io::stdin().lock(), io::stdout().lock(), &network, &bundle.tokenizer, &options) {
        // `| head` has seen enough.
        Err(tutti::Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}
