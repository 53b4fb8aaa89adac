//! The server's life: listen, warm up, answer, and end in good order.
//!
//! axum's own graceful shutdown waits for ever (tokio-rs/axum#1070) and gives no time limit to a
//! client that never sends a request, so the loop over connections is ours: some forty lines around
//! hyper.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::app::{App, Phase};
use super::router::router;
use super::warm_up::warm_up as warm;
use crate::{Error, Result};

/// After an accept fails (too many open files, say), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long answers of a dead engine's callers may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves on `listener` until `shutdown` resolves, then drains: `/readyz` turns 503 and answers end
/// their connections; after `shutdown_delay` nothing new is accepted; what was accepted is answered
/// within `drain_timeout`, the rest cut off.
///
/// # Errors
/// [`Error::EngineDead`] or the engine's own error when the model thread ended by itself: a server
/// without its model must not go on.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) -> Result<()> {
    let app = Arc::new(app);
    let warm_up = tokio::spawn(warm_up(app.clone()));
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();

    let accepting = accept(&listener, &app, &closing, &mut connections);
    let end = tokio::select! {
        never = accepting => match never {},
        () = until_draining_is_over(&app, shutdown) => Ok(()),
        ended = app.engine.stopped() => Err(ended.err().unwrap_or_else(ended_early)),
    };
    warm_up.abort();
    app.enter(Phase::Draining);
    drop(listener);
    close.send_replace(true);

    let patience = if end.is_ok() { app.settings.drain_timeout } else { LAST_WORDS };
    let until = Instant::now() + patience;
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if timeout(patience, all_closed).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            seconds = patience.as_secs_f64(),
            "cut off after the drain timeout"
        );
        connections.shutdown().await;
    }
    end?;
    app.engine.drain();
    match timeout(until.saturating_duration_since(Instant::now()).max(LAST_WORDS), app.engine.stopped()).await
    {
        Ok(stopped) => stopped,
        Err(_) => {
            tracing::warn!("the engine was still working when the drain timeout passed");
            Ok(())
        }
    }
}

fn ended_early() -> Error {
    Error::EngineDead("the model thread ended without being asked".into())
}

/// Waits for the signal, then through the time in which the server still accepts but says that it
/// goes.
async fn until_draining_is_over(app: &App, shutdown: impl Future<Output = ()>) {
    shutdown.await;
    app.enter(Phase::Draining);
    let settings = &app.settings;
    tracing::info!(
        delay_seconds = settings.shutdown_delay.as_secs_f64(),
        timeout_seconds = settings.drain_timeout.as_secs_f64(),
        "draining"
    );
    sleep(settings.shutdown_delay).await;
}

/// Runs before readiness: first-use costs (page faults, thread pools, kernels) are paid here and not
/// by the first caller. A failure is no reason to stay unready: the engine reports its own death.
async fn warm_up(app: Arc<App>) {
    let begun = Instant::now();
    if let Err(error) = warm(&app).await {
        tracing::warn!(%error, "the warm-up failed");
    }
    app.engine_metrics.warmed_up(begun.elapsed());
    app.enter(Phase::Ready);
    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "ready");
}

async fn accept(
    listener: &TcpListener,
    app: &Arc<App>,
    closing: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) -> std::convert::Infallible {
    let service = TowerToHyperService::new(router(app.clone()));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(app.settings.header_timeout);
    loop {
        // Finished connections are taken off, so that the set does not grow with the server's age.
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.spawn(connection(stream, server.clone(), service.clone(), closing.clone()));
        tracing::trace!(%peer, "connected");
    }
}

async fn connection(
    stream: TcpStream,
    server: http1::Builder,
    service: TowerToHyperService<axum::Router>,
    mut closing: watch::Receiver<bool>,
) {
    // Answers are small and written at once: waiting for more to send only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_close(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Clients that hang up are everyday life.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}

async fn told_to_close(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same as one that says so.
    let _ = closing.wait_for(|&close| close).await;
}
