//! Where texts are read and put together: off the async threads, on as many threads as there are cores.
//!
//! A text that is read takes some tens of times its bytes, so only so many bytes of large texts are in progress at
//! once. Others wait for their turn, and count as tokens of the queue while they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::settings::one_for_each_core;
use crate::{Error, Result};

/// Texts up to so many bytes are read where they arrive. Measured on two busy cores: 0.5 µs a byte
/// and 60 µs for a short sentence, against 20 to 100 µs for the way to another thread and back.
const INLINE_BYTES: usize = 512;

/// Texts of more bytes than this are large.
const LARGE_BYTES: usize = 16 << 10;

/// KiB of large texts in progress. A text of more than that is in progress alone.
const ROOM: usize = 512;

/// A large text is done in seconds.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Shared by all models of a server.
#[derive(Clone, Debug)]
pub struct Reading {
    threads: Arc<Semaphore>,
    room: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
}

impl Reading {
    /// Up to `most_waiting` bytes of large texts wait for room, or one text of any size.
    pub fn new(most_waiting: usize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(one_for_each_core().get())),
            room: Arc::new(Semaphore::new(ROOM)),
            waiting: Arc::default(),
            most_waiting,
        }
    }

    /// A place for the texts of a request, of so many bytes together, held until they are answered. `detect` is more
    /// work than an async thread should do.
    ///
    /// # Errors
    /// [`Error::QueueFull`] where too many bytes wait already.
    pub async fn enter(&self, bytes: usize, detect: bool) -> Result<Place> {
        let mut place = Place { threads: None, room: None, left: Arc::default() };
        if bytes > INLINE_BYTES || detect {
            place.threads = Some(Arc::clone(&self.threads));
        }
        if bytes > LARGE_BYTES {
            let _waiting = Waiting::new(self, bytes)?;
            // At most 512.
            let kib = bytes.div_ceil(1024).min(ROOM) as u32;
            let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
            place.room = Some(room.map_err(|_| Error::Draining)?);
        }
        Ok(place)
    }
}

/// Bytes that wait.
struct Waiting {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    fn new(reading: &Reading, bytes: usize) -> Result<Self> {
        let waiting = Arc::clone(&reading.waiting);
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let this = Self { waiting, bytes };
        if before > 0 && before.saturating_add(bytes) > reading.most_waiting {
            return Err(Error::QueueFull { retry_after: RETRY_AFTER });
        }
        Ok(this)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Work on the texts of one request ends when this is dropped, as when the client leaves.
pub struct Place {
    /// None where the texts are so short that work is done at once.
    threads: Option<Arc<Semaphore>>,
    room: Option<OwnedSemaphorePermit>,
    left: Arc<AtomicBool>,
}

impl Place {
    /// Set once nobody waits for the work.
    pub fn left(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.left)
    }

    /// Does some work on the texts.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the work panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let Some(threads) = &self.threads else { return Ok(work()) };
        // A client that leaves while it waits costs nothing.
        let permit = Arc::clone(threads).acquire_owned().await.map_err(|_| Error::Draining)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        let done = spawn_blocking(work).await;
        done.map_err(|error| Error::Tokenizer(format!("the tokenizer's thread: {error}")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        self.room = None;
    }
}

#[cfg(test)]
mod tests;
