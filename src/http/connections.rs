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

/// If room is needed, a connection is cut when its client has read nothing of an answer for this long.
const STALLED: Duration = Duration::from_secs(5);

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
    /// The client has not yet received all that was written, and has received nothing since this time.
    blocked_since: Option<Instant>,
    idle_since: Instant,
    signal: Signal,
}

impl Inner {
    /// Whether the client has sent a part of a head, or has not read all that was written.
    fn waits_for_client(&self) -> bool {
        self.head_since.is_some() || self.blocked_since.is_some()
    }

    /// Whether the client has read nothing for longer than `allowed`, although there is something to read.
    fn stalled(&self, allowed: Duration) -> bool {
        self.blocked_since.is_some_and(|since| since.elapsed() > allowed)
    }

    /// Whether only [`Signal::Cut`] makes room: the client does not read, or has sent a part of a head. If such a head
    /// began under the signal to close, [`Connections::cut_slow_heads`] limits it.
    fn must_be_cut(&self) -> bool {
        let head = self.head_since.is_some() && self.signal == Signal::KeepOpen;
        self.stalled(STALLED) || (head && self.blocked_since.is_none())
    }
}

impl Default for ConnectionState {
    fn default() -> Self {
        let inner = Inner {
            answering: false,
            head_since: None,
            blocked_since: None,
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

    /// Sets whether the last write wrote nothing. If it wrote something, the client has read: it is not idle.
    pub(super) fn wrote(&self, blocked: bool) {
        let mut inner = self.lock();
        if blocked {
            inner.blocked_since.get_or_insert_with(Instant::now);
        } else if inner.blocked_since.take().is_some() {
            inner.idle_since = Instant::now();
            if inner.signal >= Signal::CloseWhenIdle {
                // This may have been the last of the data. hyper would not look whether the connection closes.
                self.signalled.notify_one();
            }
        }
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

    /// Signals the connection to make room. It is not cut if it meanwhile began to answer or its client read.
    fn make_room(&self, signal: Signal) {
        {
            let mut inner = self.lock();
            let signal = if inner.must_be_cut() { signal } else { Signal::CloseWhenIdle };
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
    /// are closing. One whose client still reads an answer closes after that; since this may take long, idle ones are
    /// preferred.
    pub(super) fn shed(&self) -> usize {
        let open = self.lock();
        let (mut closing, mut closing_later) = (0, 0);
        let mut idle: Vec<(bool, Instant, Signal, &Arc<ConnectionState>)> = Vec::new();
        for state in open.states.values() {
            let inner = state.lock();
            match inner.signal {
                Signal::Cut => closing += 1,
                _ if inner.must_be_cut() => {
                    let since = inner.blocked_since.unwrap_or(inner.idle_since);
                    idle.push((false, since, Signal::Cut, state));
                }
                _ if inner.answering => {}
                Signal::CloseWhenIdle if inner.waits_for_client() => closing_later += 1,
                Signal::CloseWhenIdle => closing += 1,
                Signal::KeepOpen => {
                    let reads = inner.blocked_since.is_some();
                    idle.push((reads, inner.idle_since, Signal::CloseWhenIdle, state));
                }
            }
        }
        idle.sort_unstable_by_key(|(reads, since, ..)| (*reads, *since));
        for (reads, _, signal, state) in idle {
            let enough = if reads { closing + closing_later } else { closing };
            if enough >= self.shed_at_once() {
                break;
            }
            state.make_room(signal);
            *(if reads { &mut closing_later } else { &mut closing }) += 1;
        }
        closing + closing_later
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

    /// Closes connections whose clients have read nothing for longer than `allowed`. This includes those in the middle
    /// of an answer: hyper does not ask for more of it meanwhile, so no other timeout of the request would end it.
    pub(super) fn cut_stalled(&self, allowed: Duration) {
        for state in self.lock().states.values() {
            let stalled = state.lock().stalled(allowed);
            if stalled {
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
