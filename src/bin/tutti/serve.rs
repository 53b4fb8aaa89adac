//! `tutti serve`, `check` and `health`: reads settings from the command line, starts the log and handles signals.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use tutti::Error;
use tutti::flags::BackendFlags;
use tutti::http::{self, Listeners, Model, Models};
use tutti::keys::key_value;
use tutti::settings::{self, ENV_CONFIG, LogFormat, Settings, one_for_each_core};

use super::load;
use super::model::{Served, served};

/// HTTP takes about a tenth of the work of eight cores; the model takes the rest. More threads would cost time,
/// because each thread that wakes up wakes another one for polling.
const CORES_PER_HTTP_THREAD: usize = 8;

/// Timeout of `health`. Containers have their own limit.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
#[command(after_long_help = settings::reference())]
pub struct Serve {
    /// TOML file; config/server.toml describes every key.
    #[arg(long, env = ENV_CONFIG)]
    config: Option<PathBuf>,
    /// Address to listen on, as host:port [default: 127.0.0.1:8080]
    #[arg(long, conflicts_with_all = ["host", "port"])]
    listen: Option<String>,
    /// Host of --listen; 0.0.0.0 for access from other machines.
    #[arg(long)]
    host: Option<String>,
    /// Port of --listen.
    #[arg(long)]
    port: Option<u16>,
    /// Second address for probes and metrics, as host:port [default: none]
    #[arg(long)]
    admin_listen: Option<String>,
    /// Prefix of every path, such as /translator [default: none]
    #[arg(long)]
    url_prefix: Option<String>,
    /// Folder of a bundle, or the name of a built-in model; if missing, all built-in models
    #[arg(long)]
    model: Option<String>,
    /// Number of compute threads; 0 for one for each core [default: 0]
    #[arg(long)]
    threads: Option<String>,
    #[command(flatten)]
    backend: BackendFlags,
    /// Format of the log: text or json [default: text]
    #[arg(long)]
    log_format: Option<String>,
    /// Set any key of the TOML file, such as --set max_steps=4; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    fn settings(&self) -> Result<Settings> {
        let named = [
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
            ("url_prefix", &self.url_prefix),
            ("model", &self.model),
            ("threads", &self.threads),
            ("log_format", &self.log_format),
        ];
        let mut flags: Vec<(String, String)> =
            named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
        flags.extend(self.host.clone().map(|host| (settings::HOST.to_owned(), host)));
        flags.extend(self.port.map(|port| (settings::PORT.to_owned(), port.to_string())));
        let BackendFlags { device_flag, network } = &self.backend;
        flags.extend(device_flag.device.map(|device| ("device".to_owned(), device.into())));
        flags.extend(network.dtype.map(|dtype| ("dtype".to_owned(), dtype.name().to_owned())));
        for (key, off) in [("shortlist", network.no_shortlist), ("lm", network.no_lm)] {
            flags.extend(off.then(|| (key.to_owned(), "false".to_owned())));
        }
        for pair in &self.set {
            let (key, value) = key_value(pair).map_err(Error::Config)?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        // All variables of tutti are Unicode; others are skipped.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Settings::load(self.config.as_deref(), environment, flags)?)
    }
}

pub fn serve(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    start_log(&settings)?;
    let http_threads = one_for_each_core().get().div_ceil(CORES_PER_HTTP_THREAD);
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), http_threads, "starting");
    tracing::info!("settings\n{}", settings.to_toml());
    let open_files = http::raise_open_files_limit();
    tracing::info!(open_files, "limits");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(http_threads).enable_all().build()?;
    let served = runtime.block_on(async {
        // Before the model is loaded, so that a signal stops loading and a port in use is reported immediately.
        let shutdown = shutdown_signal()?;
        let public = listen(settings.listen).await?;
        let admin = match settings.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let served = served(&settings.models);
        let models = load::open(&settings, served.clone())?;
        reload_at_hangup(models.clone(), served)?;
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

pub fn check(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    settings.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let models = load::open(&settings, served(&settings.models))?;
    print!("{}", settings.to_toml());
    for app in models.all() {
        let Model { name, pair, checksum, .. } = &app.model;
        println!("# model {name}: {} to {}, {checksum}", pair.source, pair.target);
        app.engine.drain();
    }
    Ok(())
}

pub fn health(arguments: &Serve) -> Result<()> {
    let settings = arguments.settings()?;
    let server = settings.admin_listen.unwrap_or(settings.listen);
    http::healthcheck(server, "/readyz", HEALTH_TIMEOUT).with_context(|| format!("{server} is not ready"))
}

/// Reloads keys and models at each SIGHUP. If that fails, the old ones are kept. `served` has the models in the
/// same order.
fn reload_at_hangup(models: Models, served: Vec<Served>) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reloading keys and models");
            match models.first().keys.as_ref().map(|keys| keys.reload()) {
                None => {}
                Some(Ok(count)) => tracing::info!(count, "the API keys were reloaded"),
                Some(Err(error)) => {
                    tracing::error!(%error, "the API keys were not reloaded; the old ones are kept")
                }
            }
            for (app, each) in models.all().iter().zip(&served) {
                let name = &app.model.name;
                if each.place.is_built_in() {
                    tracing::info!(name, "the model is built in and cannot be reloaded");
                    continue;
                }
                match models.reload(name).await {
                    Ok(()) => tracing::info!(name, "the model was reloaded"),
                    Err(error) => {
                        tracing::error!(%error, name, "the model was not reloaded; the old one is kept")
                    }
                }
            }
        }
    });
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT. The second one ends the process immediately.
fn shutdown_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, shutdown) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        next().await;
        // Fails if the server has already stopped.
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
