//! The open connections: how many there may be, what each of them is doing, and which are closed first
//! when there is no room for more.
//!
//! Knows no requests and no HTTP: `connection` reports what happens on its socket and obeys what it is
//! told here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// File descriptors that are left for everything else: model files, logs, the other listener.
const RESERVED_FILES: u64 = 64;

/// Connections where the system sets no limit that matters.
const MOST_CONNECTIONS: u64 = 16_384;

/// The part of all connections that is closed at once when there is no room: looking for the longest idle
/// ones takes time, and whoever opens connections by the thousand should not buy that time with each.
const SHED_PART: usize = 64;

/// Signals to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Stay,
    /// Close as soon as no request is there, not even one that the socket holds unread.
    CloseWhenIdle,
    /// Close whatever is there.
    Cut,
}

/// State of a connection, and its signals.
pub(super) struct ConnectionState {
    inner: Mutex<Inner>,
    told: Notify,
}

struct Inner {
    /// A request has arrived whose answer is not yet handed over.
    answering: bool,
    /// When the head of the next request began to arrive.
    head_since: Option<Instant>,
    /// The client has not yet taken what was written.
    write_blocked: bool,
    idle_since: Instant,
    order: Order,
}

impl Default for ConnectionState {
    fn default() -> Self {
        let inner = Inner {
            answering: false,
            head_since: None,
            write_blocked: false,
            idle_since: Instant::now(),
            order: Order::Stay,
        };
        Self { inner: Mutex::new(inner), told: Notify::new() }
    }
}

impl ConnectionState {
    /// No change of the state can panic halfway, so what a poisoned lock guards is whole.
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

    /// Whether the last write could not give everything away.
    pub(super) fn wrote(&self, blocked: bool) {
        self.lock().write_blocked = blocked;
    }

    /// The head of a request is complete.
    pub(super) fn begin_answer(&self) {
        let mut inner = self.lock();
        (inner.answering, inner.head_since) = (true, None);
    }

    /// The answer was handed over, or nobody works on it any more.
    pub(super) fn end_answer(&self) {
        let mut inner = self.lock();
        (inner.answering, inner.idle_since) = (false, Instant::now());
    }

    /// Whether the connection should end now, given that its socket has nothing to read.
    pub(super) fn closes_now(&self) -> bool {
        let inner = self.lock();
        let idle = !inner.answering && inner.head_since.is_none() && !inner.write_blocked;
        inner.order >= Order::CloseWhenIdle && idle
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lock().order == Order::Cut
    }

    /// Resolves when there may be a new order.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    fn tell(&self, order: Order) {
        {
            let mut inner = self.lock();
            inner.order = inner.order.max(order);
        }
        self.told.notify_one();
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// There will be room in a moment.
    SomeAreClosing,
    AllAtWork,
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
    /// Connections that are yet to come close when they are idle.
    closing: bool,
}

impl Connections {
    /// `limit` of 0 is what the limit of open files allows.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let limit = if limit == 0 { limit_of_files() } else { limit };
        Arc::new(Self { limit, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection for as long as the answer lives. Where there is no room, some of the longest idle ones are
    /// told to close.
    pub(super) fn register(self: &Arc<Self>) -> Result<Registered, NoRoom> {
        let full = self.lock().states.len() >= self.limit;
        if full && self.shed() == 0 {
            return Err(NoRoom::AllAtWork);
        }
        let mut open = self.lock();
        // Those that were told to close need a moment, in which there may be a few more.
        if open.states.len() >= self.limit + self.shed_at_once() {
            return Err(NoRoom::SomeAreClosing);
        }
        let state = Arc::new(ConnectionState::default());
        if open.closing {
            state.tell(Order::CloseWhenIdle);
        }
        let id = open.next;
        open.next += 1;
        open.states.insert(id, state.clone());
        Ok(Registered { state, id, all: self.clone() })
    }

    fn shed_at_once(&self) -> usize {
        (self.limit / SHED_PART).max(1)
    }

    /// Tells some of the longest idle connections to close, unless as many are closing already. Gives how many are.
    pub(super) fn shed(&self) -> usize {
        let open = self.lock();
        let mut closing = 0;
        let mut idle: Vec<(Instant, &Arc<ConnectionState>)> = Vec::new();
        for state in open.states.values() {
            let inner = state.lock();
            match (inner.order, inner.answering) {
                (Order::Stay, false) => idle.push((inner.idle_since, state)),
                (Order::Stay, true) => {}
                _ => closing += 1,
            }
        }
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, state) in idle.into_iter().take(self.shed_at_once().saturating_sub(closing)) {
            // One that has sent half a head is not idle for HTTP, but it holds up others for nothing.
            let begun = state.lock().head_since.is_some();
            state.tell(if begun { Order::Cut } else { Order::CloseWhenIdle });
            closing += 1;
        }
        closing
    }

    /// Cuts connections on which a head has been arriving for longer than `allowed`.
    pub(super) fn cut_slow_heads(&self, allowed: Duration) {
        for state in self.lock().states.values() {
            let since = state.lock().head_since;
            if since.is_some_and(|since| since.elapsed() > allowed) {
                state.tell(Order::Cut);
            }
        }
    }

    /// From now on every connection closes as soon as nothing is asked on it.
    pub(super) fn close_idle(&self) {
        let mut open = self.lock();
        open.closing = true;
        open.states.values().for_each(|state| state.tell(Order::CloseWhenIdle));
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

/// As many connections as the limit of open files allows.
fn limit_of_files() -> usize {
    let files = open_files_limit().unwrap_or(MOST_CONNECTIONS + RESERVED_FILES);
    let connections = files.saturating_sub(RESERVED_FILES).clamp(16, MOST_CONNECTIONS);
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

/// Raises the limit of open files to what the system allows this process. Gives the limit; `None` where
/// there is none or it is not known.
#[cfg(target_os = "linux")]
pub fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files stays as it is");
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
