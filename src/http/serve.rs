//! The server's life: listen, warm up, answer, and end without losing a request that was sent.
//!
//! axum's own graceful shutdown waits for ever (tokio-rs/axum#1070), and hyper's closes connections that
//! look idle although a request is already in their socket. So the loop over connections is ours.

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
use super::app::Phase;
use super::connection;
use super::connections::{Connections, NoRoom};
use super::models::Models;
use super::router::router;
use super::warm_up;
use crate::Result;
use crate::settings::HttpSettings;

/// After an accept fails (too many open files, say), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How often it is said that connections are refused or cannot be accepted.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// How long answers of a dead engine's callers may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// After the end of accepting: how long a client that keeps its connection has time to ask once more and to
/// read `Connection: close` in the answer. A client that keeps asking gets `Connection: close` too; nobody is cut off in
/// the moment of asking.
const KEEP_ALIVE_GRACE: Duration = Duration::from_secs(1);

/// While the last connections are accepted: so long no new one, and there are no more. At most so long.
const BACKLOG_QUIET: Duration = Duration::from_millis(100);
const BACKLOG_AT_MOST: Duration = Duration::from_secs(1);

/// Connections of the listener for operators.
const ADMIN_CONNECTIONS: usize = 32;

/// How often, and how long each time, an accepted connection waits for those that are closing.
const CLOSING_TRIES: u32 = 100;
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// Connections that are being told that there is no room for them.
const TURNED_AWAY_AT_ONCE: usize = 16;

/// Where the server listens.
pub struct Listeners {
    /// For everybody.
    pub public: TcpListener,
    /// For probes, metrics and whoever operates the server: apart from the load.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, admin: None }
    }
}

/// Serves until `shutdown` resolves, then drains: `/readyz` turns 503 and answers end their connections;
/// after `shutdown_delay` nothing new is accepted; whatever was sent until then is answered within
/// `drain_timeout`, the rest cut off.
///
/// # Errors
/// [`Error::EngineDead`](crate::Error::EngineDead) when a model thread ended by itself: a server without its
/// model must not go on.
pub async fn serve(
    listeners: impl Into<Listeners>,
    models: Models,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let Listeners { public, admin } = listeners.into();
    // No app is held here: a model that is loaded again must be able to go.
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
        () = until_draining_is_over(&models, shutdown) => Ok(()),
        died = models.died() => Err(died),
    };
    warm_up.abort();
    models.first().enter(Phase::Draining);
    let patience = if end.is_ok() { settings.drain_timeout } else { LAST_WORDS };
    let until = Instant::now() + patience;
    if end.is_ok() {
        server.accept_the_last(&public, patience).await;
    }
    drop(public);
    server.drain(until).await;
    if end.is_ok() {
        let left = until.saturating_duration_since(Instant::now()).max(LAST_WORDS);
        if !models.drain(left).await? {
            tracing::warn!("an engine was still working when the drain timeout passed");
        }
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    end
}

/// Waits for the signal, then through the time in which the server still accepts but says that it
/// goes.
async fn until_draining_is_over(models: &Models, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    let app = models.first();
    app.enter(Phase::Draining);
    let settings = app.settings.clone();
    drop(app);
    tracing::info!(
        delay_seconds = settings.shutdown_delay.as_secs_f64(),
        timeout_seconds = settings.drain_timeout.as_secs_f64(),
        "draining"
    );
    sleep(settings.shutdown_delay).await;
}

/// Runs before readiness. A failure is no reason to stay unready: the engine reports its own death.
async fn warm_up(models: Models) {
    for app in models.all() {
        let begun = Instant::now();
        if let Err(error) = warm_up::warm_up(&app).await {
            tracing::warn!(%error, model = app.model.name, "the warm-up failed");
        }
        app.engine_metrics.warmed_up(begun.elapsed());
        tracing::info!(model = app.model.name, seconds = begun.elapsed().as_secs_f64(), "warmed up");
    }
    models.first().enter(Phase::Ready);
    tracing::info!("ready");
}

/// One listener's connections and what answers on them.
struct Server {
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    header_timeout: Duration,
    connections: Arc<Connections>,
    tasks: JoinSet<()>,
    turned_away: JoinSet<()>,
    /// Accepted, while it waits for those that are closing: not lost when accepting ends meanwhile.
    waiting: Option<TcpStream>,
    last_said: Option<Instant>,
}

impl Server {
    fn new(settings: &HttpSettings, router: Router, max_connections: usize) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(settings.idle_timeout);
        Self {
            http,
            service: TowerToHyperService::new(router),
            header_timeout: settings.header_timeout,
            connections: Connections::new(max_connections),
            tasks: JoinSet::new(),
            turned_away: JoinSet::new(),
            waiting: None,
            last_said: None,
        }
    }

    async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => self.take(accepted.map(|(stream, _)| stream)).await,
                _ = tick.tick() => self.connections.cut_slow_heads(self.header_timeout),
            }
        }
    }

    /// Begins to serve a connection.
    async fn take(&mut self, accepted: std::io::Result<TcpStream>) {
        // Finished connections are taken off, so that the sets do not grow with the server's age.
        while self.tasks.try_join_next().is_some() {}
        while self.turned_away.try_join_next().is_some() {}
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                let closed = self.connections.shed();
                self.say(
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
                self.say(|| tracing::warn!("max_connections is reached and none is idle; new ones get 503"));
                if self.turned_away.len() < TURNED_AWAY_AT_ONCE {
                    self.turned_away.spawn(connection::turn_away(stream));
                }
            }
        }
    }

    /// Says it at most once a second, however often it happens.
    fn say(&mut self, say: impl FnOnce()) {
        if self.last_said.is_none_or(|last| last.elapsed() >= SAID_EVERY) {
            self.last_said = Some(Instant::now());
            say();
        }
    }

    /// Takes the connections that clients have already opened, so that the end of the listener resets none.
    async fn accept_the_last(&mut self, listener: &TcpListener, patience: Duration) {
        if let Err(error) = refuse_new(listener) {
            tracing::debug!(%error, "new connections cannot be kept out while the last ones are accepted");
        }
        let all = async {
            if let Some(stream) = self.waiting.take() {
                self.take(Ok(stream)).await;
            }
            while let Ok(accepted) = timeout(BACKLOG_QUIET, listener.accept()).await {
                self.take(accepted.map(|(stream, _)| stream)).await;
            }
        };
        // Without the filter there may be no end of new ones.
        let _ = timeout(BACKLOG_AT_MOST.min(patience), all).await;
    }

    /// Answers what is there and what comes within the grace, then closes what is idle, and at last the rest.
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

/// Lets the kernel drop what would open a new connection, while those that are half open become whole: a
/// listener that is closed with connections in its backlog resets them, and with them the requests that
/// clients have already sent.
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
