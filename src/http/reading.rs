//! Runs the work on texts (splitting, tokenizing, detokenizing) outside of the async threads, on one thread for
//! each core.
//!
//! A text in progress takes tens of times its size in memory, so the bytes of large texts in progress are limited.
//! Other large texts wait; the size of the engine's queue limits their bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::settings::one_for_each_core;
use crate::{Error, Result};

/// Texts up to this size are processed on the async thread: they take less time than a switch to another thread and
/// back. Measured on two busy cores: 60 µs for a short sentence, 20 to 100 µs for the switch.
const INLINE_BYTES: usize = 512;

/// Texts of more bytes than this are large.
const LARGE_BYTES: usize = 16 << 10;

/// Maximum KiB of large texts in progress. A larger text is in progress alone.
const MAX_LARGE_KIB: usize = 512;

/// Large texts take seconds.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Shared by all models of a server.
#[derive(Clone, Debug)]
pub struct Reading {
    threads: Arc<Semaphore>,
    large: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
}

impl Reading {
    /// At most `max_waiting` bytes of large texts wait, or one text of any size.
    pub fn new(max_waiting: usize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(one_for_each_core().get())),
            large: Arc::new(Semaphore::new(MAX_LARGE_KIB)),
            waiting: Arc::default(),
            max_waiting,
        }
    }

    /// Waits until the texts of a request may be processed. `bytes` is their total size; with `detect`, the work
    /// is too much for an async thread. The permit is held until the request is answered.
    ///
    /// # Errors
    /// [`Error::QueueFull`] if too many bytes are waiting.
    pub async fn acquire(&self, bytes: usize, detect: bool) -> Result<TextPermit> {
        let mut permit = TextPermit { threads: None, large: None, cancelled: Arc::default() };
        if bytes > INLINE_BYTES || detect {
            permit.threads = Some(Arc::clone(&self.threads));
        }
        if bytes > LARGE_BYTES {
            let _waiting = Waiting::new(self, bytes)?;
            let kib = bytes.div_ceil(1024).min(MAX_LARGE_KIB) as u32;
            let large = Arc::clone(&self.large).acquire_many_owned(kib).await;
            permit.large = Some(large.map_err(|_| Error::Draining)?);
        }
        Ok(permit)
    }
}

/// Counts waiting bytes until it is dropped.
struct Waiting {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    fn new(reading: &Reading, bytes: usize) -> Result<Self> {
        let waiting = Arc::clone(&reading.waiting);
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let this = Self { waiting, bytes };
        if before > 0 && before.saturating_add(bytes) > reading.max_waiting {
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

/// Permits work on the texts of one request. Its drop cancels the work, for example if the client disconnects.
pub struct TextPermit {
    /// `None` if the texts are short and the work runs on the async thread.
    threads: Option<Arc<Semaphore>>,
    large: Option<OwnedSemaphorePermit>,
    cancelled: Arc<AtomicBool>,
}

impl TextPermit {
    /// Becomes true when the permit is dropped.
    pub fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Runs some work on the texts.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the work panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let Some(threads) = &self.threads else { return Ok(work()) };
        // The work does not start if the client disconnects while it waits.
        let permit = Arc::clone(threads).acquire_owned().await.map_err(|_| Error::Draining)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        let done = spawn_blocking(work).await;
        done.map_err(|error| Error::Tokenizer(format!("the tokenizer's thread: {error}")))
    }
}

impl Drop for TextPermit {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.large = None;
    }
}

#[cfg(test)]
mod tests;
