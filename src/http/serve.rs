//! Runs the server: listens, warms up, answers, and shuts down without losing a request that was sent.
//!
//! axum's graceful shutdown has no time limit (tokio-rs/axum#1070), and hyper's closes idle connections although a
//! request may be in their socket. So this module has its own accept loop.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::admin::admin_router;
use super::connection;
use super::connections::{Connections, NoRoom};
use super::lifecycle::Phase;
use super::models::Models;
use super::router::router;
use super::warm_up;
use crate::Result;
use crate::settings::HttpSettings;

/// Pause after a failed accept, for example because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Minimum time between two warnings about refused connections.
const WARN_INTERVAL: Duration = Duration::from_secs(1);

/// Time for the last responses after an engine died or was drained.
const LAST_RESPONSES: Duration = Duration::from_secs(1);

/// Time after the last accept in which open connections get another response, with `Connection: close`. So a
/// client is not cut off while it sends a request.
const KEEP_ALIVE_GRACE: Duration = Duration::from_secs(1);

/// The last connections are accepted until there was no new one for `BACKLOG_QUIET`, for at most `BACKLOG_AT_MOST`.
const BACKLOG_QUIET: Duration = Duration::from_millis(100);
const BACKLOG_AT_MOST: Duration = Duration::from_secs(1);

/// Maximum number of connections of the admin listener.
const ADMIN_CONNECTIONS: usize = 32;

/// How often, and how long each time, an accepted connection waits for connections that are closing.
const CLOSING_TRIES: u32 = 100;
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// Maximum number of connections that are being answered with 503.
const MAX_REJECTING: usize = 16;

/// Where the server listens.
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For probes, metrics and operators, independent of the load.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, admin: None }
    }
}

/// Serves until `shutdown` resolves, then drains: `/readyz` answers 503, and responses close their connections.
/// After `shutdown_delay`, no new connection is accepted. Requests that were sent until then are answered within
/// `drain_timeout`; then all connections are closed.
///
/// # Errors
/// [`Error::EngineDead`](crate::Error::EngineDead) if a model thread died: the process should exit.
pub async fn serve(
    listeners: impl Into<Listeners>,
    models: Models,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let Listeners { public, admin } = listeners.into();
    // This function must not hold an `App`: the old engine ends only when its last `App` is dropped.
    let settings = models.first().settings.clone();
    models.watch_all();
    let warm_up = tokio::spawn(warm_up(models.clone()));
    let admin = admin.map(|listener| {
        let mut server = Server::new(&settings, admin_router(&models), ADMIN_CONNECTIONS);
        tokio::spawn(async move { server.accept(&listener).await })
    });
    let mut server = Server::new(&settings, router(&models), settings.max_connections);

    let end = tokio::select! {
        never = server.accept(&public) => match never {},
        () = wait_for_shutdown(&models, shutdown) => Ok(()),
        died = models.died() => Err(died),
    };
    warm_up.abort();
    models.first().lifecycle.enter(Phase::Draining);
    let limit = if end.is_ok() { settings.drain_timeout } else { LAST_RESPONSES };
    let until = Instant::now() + limit;
    if end.is_ok() {
        server.accept_backlog(&public, limit).await;
    }
    drop(public);
    server.drain(until).await;
    if end.is_ok() {
        let left = until.saturating_duration_since(Instant::now()).max(LAST_RESPONSES);
        if !models.drain(left).await? {
            tracing::warn!("an engine was still working when the drain timeout passed");
        }
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    let traces = models.first().traces.clone();
    traces.shutdown().await;
    end
}

/// Waits for the signal, then for `shutdown_delay`, in which the server still accepts connections but is not ready.
async fn wait_for_shutdown(models: &Models, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    let app = models.first();
    app.lifecycle.enter(Phase::Draining);
    let settings = app.settings.clone();
    drop(app);
    tracing::info!(
        delay_seconds = settings.shutdown_delay.as_secs_f64(),
        timeout_seconds = settings.drain_timeout.as_secs_f64(),
        "draining"
    );
    sleep(settings.shutdown_delay).await;
}

/// Warms up all models, then enters [`Phase::Ready`], even after an error: a dead engine is reported separately.
async fn warm_up(models: Models) {
    for app in models.all() {
        let started = Instant::now();
        if let Err(error) = warm_up::warm_up(&app).await {
            tracing::warn!(%error, model = app.model.name, "the warm-up failed");
        }
        app.engine_metrics.warmed_up(started.elapsed());
        tracing::info!(model = app.model.name, seconds = started.elapsed().as_secs_f64(), "warmed up");
    }
    models.first().lifecycle.enter(Phase::Ready);
    tracing::info!("ready");
}

/// The connections of one listener, and the service that answers them.
struct Server {
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    header_timeout: Duration,
    idle_timeout: Duration,
    connections: Arc<Connections>,
    tasks: JoinSet<()>,
    rejecting: JoinSet<()>,
    /// An accepted connection that waits for others to close. It is kept here in case accepting ends meanwhile.
    waiting: Option<TcpStream>,
    last_warning: Option<Instant>,
}

impl Server {
    fn new(settings: &HttpSettings, router: Router, max_connections: usize) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(settings.idle_timeout);
        Self {
            http,
            service: TowerToHyperService::new(router),
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            connections: Connections::new(max_connections),
            tasks: JoinSet::new(),
            rejecting: JoinSet::new(),
            waiting: None,
            last_warning: None,
        }
    }

    async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => self.take(accepted.map(|(stream, _)| stream)).await,
                _ = tick.tick() => {
                    self.connections.cut_slow_heads(self.header_timeout);
                    self.connections.cut_stalled(self.idle_timeout);
                }
            }
        }
    }

    /// Starts to serve a connection.
    async fn take(&mut self, accepted: std::io::Result<TcpStream>) {
        // Finished tasks are removed, so that the sets do not grow.
        while self.tasks.try_join_next().is_some() {}
        while self.rejecting.try_join_next().is_some() {}
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                let closed = self.connections.shed();
                self.warn(
                    || tracing::warn!(%error, closed, "cannot accept a connection; idle ones are closed"),
                );
                sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        self.waiting = Some(stream);
        let mut registered = self.connections.register();
        for _ in 0..CLOSING_TRIES {
            if registered.as_ref().err() != Some(&NoRoom::SomeAreClosing) {
                break;
            }
            sleep(CLOSING_PAUSE).await;
            registered = self.connections.register();
        }
        let Some(stream) = self.waiting.take() else { return };
        match registered {
            Ok(registered) => {
                let (http, service) = (self.http.clone(), self.service.clone());
                self.tasks.spawn(connection::run(stream, http, service, registered));
            }
            Err(_) => {
                self.warn(|| tracing::warn!("max_connections is reached and none is idle; new ones get 503"));
                if self.rejecting.len() < MAX_REJECTING {
                    self.rejecting.spawn(connection::reject(stream));
                }
            }
        }
    }

    /// Logs a warning, unless there was one in the last second.
    fn warn(&mut self, warn: impl FnOnce()) {
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
            self.last_warning = Some(Instant::now());
            warn();
        }
    }

    /// Accepts the connections that clients have already opened, so that closing the listener resets none of them.
    async fn accept_backlog(&mut self, listener: &TcpListener, limit: Duration) {
        if let Err(error) = refuse_new(listener) {
            tracing::debug!(%error, "cannot refuse new connections while the last ones are accepted");
        }
        let all = async {
            if let Some(stream) = self.waiting.take() {
                self.take(Ok(stream)).await;
            }
            while let Ok(accepted) = timeout(BACKLOG_QUIET, listener.accept()).await {
                self.take(accepted.map(|(stream, _)| stream)).await;
            }
        };
        // Without the filter, new connections may never end.
        let _ = timeout(BACKLOG_AT_MOST.min(limit), all).await;
    }

    /// Answers requests until the grace period ends, then closes idle connections, and all others at `until`.
    async fn drain(&mut self, until: Instant) {
        let left = || until.saturating_duration_since(Instant::now());
        let tasks = &mut self.tasks;
        let mut all_closed = async || while tasks.join_next().await.is_some() {};
        if timeout(KEEP_ALIVE_GRACE.min(left()), all_closed()).await.is_ok() {
            return;
        }
        self.connections.close_idle();
        if timeout(left(), all_closed()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "cut off after the drain timeout");
            self.tasks.shutdown().await;
        }
    }
}

/// Lets the kernel drop packets that open new connections; connections that are already being opened are
/// completed. Closing a listener resets the connections in its backlog, and the requests in them would be lost.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::{SockFilter, SockRef};
    // Classic BPF over the TCP header. Byte 13 holds the flags; 0x02 is SYN.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_: &TcpListener) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
