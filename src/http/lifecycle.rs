//! The life of the server: its phase, and the requests that it admits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::error::ApiError;
use crate::Error;
use crate::metrics::{HttpMetrics, Rejected};

/// The server's phase. It only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Listening; the model is warming up.
    Starting,
    Ready,
    /// The shutdown signal was received: accepted requests are finished, connections are closed.
    Draining,
}

/// All models of a server share it; cheap to clone.
#[derive(Clone)]
pub(super) struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    admission: Arc<Semaphore>,
    max_requests: usize,
    metrics: HttpMetrics,
}

impl Lifecycle {
    /// Serves at most `max_requests` requests at a time.
    pub fn new(max_requests: usize, metrics: HttpMetrics) -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
            admission: Arc::new(Semaphore::new(max_requests)),
            max_requests,
            metrics,
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a phase, unless a later one was entered: a draining server does not become ready again.
    pub fn enter(&self, phase: Phase) {
        let moved = self.phase.send_if_modified(|now| {
            let moves = phase > *now;
            *now = phase.max(*now);
            moves
        });
        if moved {
            self.metrics.set_ready(phase == Phase::Ready);
        }
    }

    /// Checks that requests are accepted. While draining, requests on open connections are still served.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the warm-up is done.
    pub fn check_ready(&self) -> Result<(), ApiError> {
        match self.phase() {
            Phase::Starting => Err(Error::NotReady.into()),
            Phase::Ready | Phase::Draining => Ok(()),
        }
    }

    /// A permit for a request, held until its response. It is taken after the whole body has arrived.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`] if the maximum number of requests is in progress.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.admission.clone().try_acquire_owned().map_err(|_| {
            self.metrics.rejected(Rejected::QueueFull, 1);
            ApiError::TooManyRequests { limit: self.max_requests }
        })
    }
}
