//! The open connections and their states. If there are too many, the longest idle ones are closed.
//!
//! The module does not depend on HTTP: `connection` reports the events of its socket and follows the signals from
//! here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// File descriptors reserved for everything else: model files, logs, the other listener.
const RESERVED_FILES: u64 = 64;

/// Number of connections if the system sets no useful limit.
const MAX_CONNECTIONS: u64 = 16_384;

/// One of this many connections is closed if the limit is reached. Finding the longest idle ones takes time,
/// so it must not be done for every new connection.
const SHED_FRACTION: usize = 64;

/// Signals to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    KeepOpen,
    /// Close as soon as no request is in progress and the socket contains no unread one.
    CloseWhenIdle,
    /// Close immediately.
    Cut,
}

/// State of a connection, and its signals.
pub(super) struct ConnectionState {
    inner: Mutex<Inner>,
    signalled: Notify,
}

struct Inner {
    /// A request has arrived whose response is not written yet.
    answering: bool,
    /// Time when the head of the next request began to arrive.
    head_since: Option<Instant>,
    /// The client has not yet received all that was written.
    write_blocked: bool,
    idle_since: Instant,
    signal: Signal,
}

impl Inner {
    /// Whether the client has sent a part of a head, or has not read all that was written. It may never do the rest,
    /// so [`Signal::CloseWhenIdle`] may never close such a connection.
    fn waits_for_client(&self) -> bool {
        self.head_since.is_some() || self.write_blocked
    }
}

impl Default for ConnectionState {
    fn default() -> Self {
        let inner = Inner {
            answering: false,
            head_since: None,
            write_blocked: false,
            idle_since: Instant::now(),
            signal: Signal::KeepOpen,
        };
        Self { inner: Mutex::new(inner), signalled: Notify::new() }
    }
}

impl ConnectionState {
    /// The state is consistent even if a thread panicked with the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes arrived.
    pub(super) fn received(&self) {
        let mut inner = self.lock();
        if !inner.answering && inner.head_since.is_none() {
            inner.head_since = Some(Instant::now());
        }
    }

    /// Sets whether the last write left data behind. A client that reads what was left is not idle.
    pub(super) fn wrote(&self, blocked: bool) {
        let mut inner = self.lock();
        if inner.write_blocked && !blocked {
            inner.idle_since = Instant::now();
        }
        inner.write_blocked = blocked;
    }

    /// The head of a request is complete.
    pub(super) fn begin_answer(&self) {
        let mut inner = self.lock();
        (inner.answering, inner.head_since) = (true, None);
    }

    /// The response was written, or the request was cancelled.
    pub(super) fn end_answer(&self) {
        let mut inner = self.lock();
        (inner.answering, inner.idle_since) = (false, Instant::now());
    }

    /// Whether the connection should be closed now, if its socket has nothing to read.
    pub(super) fn closes_now(&self) -> bool {
        let inner = self.lock();
        let idle = !inner.answering && !inner.waits_for_client();
        inner.signal >= Signal::CloseWhenIdle && idle
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lock().signal == Signal::Cut
    }

    /// Resolves when there may be a new signal.
    pub(super) async fn signalled(&self) {
        self.signalled.notified().await;
    }

    fn signal(&self, signal: Signal) {
        {
            let mut inner = self.lock();
            inner.signal = inner.signal.max(signal);
        }
        self.signalled.notify_one();
    }
}

/// Why a connection is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Some connections are being closed; try again in a moment.
    SomeAreClosing,
    AllBusy,
}

/// All connections of one listener.
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    states: HashMap<u64, Arc<ConnectionState>>,
    next: u64,
    /// Whether new connections close when they are idle.
    closing: bool,
}

impl Connections {
    /// Creates a registry for `limit` connections; 0 for as many as the limit of open files allows.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let limit = if limit == 0 { default_limit() } else { limit };
        Arc::new(Self { limit, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection until the returned guard is dropped. At the limit, some of the longest idle connections
    /// get the signal to close.
    pub(super) fn register(self: &Arc<Self>) -> Result<Registered, NoRoom> {
        let full = self.lock().states.len() >= self.limit;
        if full && self.shed() == 0 {
            return Err(NoRoom::AllBusy);
        }
        let mut open = self.lock();
        // Connections with the signal to close need a moment, so the limit may be exceeded by a few.
        if open.states.len() >= self.limit + self.shed_at_once() {
            return Err(NoRoom::SomeAreClosing);
        }
        let state = Arc::new(ConnectionState::default());
        if open.closing {
            state.signal(Signal::CloseWhenIdle);
        }
        let id = open.next;
        open.next += 1;
        open.states.insert(id, state.clone());
        Ok(Registered { state, id, all: self.clone() })
    }

    fn shed_at_once(&self) -> usize {
        (self.limit / SHED_FRACTION).max(1)
    }

    /// Signals some of the longest idle connections to close, unless as many are closing already. Returns how many
    /// are closing. One that waits for its client counts as idle and is cut: if it counted as closing, clients that
    /// do not read could keep everybody out.
    pub(super) fn shed(&self) -> usize {
        let open = self.lock();
        let mut closing = 0;
        let mut idle: Vec<(Instant, &Arc<ConnectionState>)> = Vec::new();
        for state in open.states.values() {
            let inner = state.lock();
            match inner.signal {
                Signal::Cut => closing += 1,
                _ if inner.answering => {}
                Signal::CloseWhenIdle if !inner.waits_for_client() => closing += 1,
                _ => idle.push((inner.idle_since, state)),
            }
        }
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, state) in idle.into_iter().take(self.shed_at_once().saturating_sub(closing)) {
            let waits = state.lock().waits_for_client();
            state.signal(if waits { Signal::Cut } else { Signal::CloseWhenIdle });
            closing += 1;
        }
        closing
    }

    /// Closes connections on which a head has been arriving for longer than `allowed`.
    pub(super) fn cut_slow_heads(&self, allowed: Duration) {
        for state in self.lock().states.values() {
            let since = state.lock().head_since;
            if since.is_some_and(|since| since.elapsed() > allowed) {
                state.signal(Signal::Cut);
            }
        }
    }

    /// From now on, every connection closes as soon as no request is in progress on it.
    pub(super) fn close_idle(&self) {
        let mut open = self.lock();
        open.closing = true;
        open.states.values().for_each(|state| state.signal(Signal::CloseWhenIdle));
    }
}

/// A counted connection.
pub(super) struct Registered {
    pub(super) state: Arc<ConnectionState>,
    id: u64,
    all: Arc<Connections>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.all.lock().states.remove(&self.id);
    }
}

/// The number of connections that the limit of open files allows.
fn default_limit() -> usize {
    let files = open_files_limit().unwrap_or(MAX_CONNECTIONS + RESERVED_FILES);
    let connections = files.saturating_sub(RESERVED_FILES).clamp(16, MAX_CONNECTIONS);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

#[cfg(target_os = "linux")]
fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
fn open_files_limit() -> Option<u64> {
    Some(256)
}

/// Raises the limit of open files to the maximum for this process. Returns the limit; `None` if there is none or
/// it is unknown.
#[cfg(target_os = "linux")]
pub fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
pub fn raise_open_files_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests;
