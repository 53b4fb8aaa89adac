//! What every handler sees: the model's description, the engine's handle, the limits, the counters,
//! and where the server stands in its life.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout_at;

use super::detect::Detector;
use super::error::ApiError;
use super::files::Files;
use super::glossary_store::Glossaries;
use super::languages::Pair;
use super::params::Params;
use super::request::Abilities;
use super::routes::ROUTES;
use super::usage::Usage;
use crate::decode::Steps;
use crate::engine::Handle;
use crate::metrics::{EngineMetrics, HttpMetrics, Metrics, Rejected};
use crate::model::Score;
use crate::settings::{HttpSettings, one_for_each_core};
use crate::text::{Reader, Tokenizer};
use crate::{Error, Result};

/// What the network side knows of the model behind the engine.
pub struct Model {
    pub name: String,
    pub pair: Pair,
    /// Of the bundle's weights.
    pub checksum: String,
    pub dtype: String,
    pub device: String,
    /// Why a CPU computes where a GPU would have been preferred.
    pub cpu_fallback_reason: Option<String>,
    /// Whether each sentence chooses among its own candidates.
    pub shortlist: bool,
    /// Whether an Imputer's slots are read with a language model.
    pub lm: bool,
    pub default_steps: Steps,
    pub max_steps: Steps,
    /// Measured by `train evaluate`.
    pub scores: Vec<Score>,
    pub tokenizer: Arc<Tokenizer>,
}

/// Where the server stands. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Listening; the model is warming up.
    Starting,
    Ready,
    /// The signal came: no new connections soon, what was accepted is finished.
    Draining,
}

pub struct App {
    pub model: Model,
    pub engine: Handle,
    pub settings: HttpSettings,
    pub metrics: Metrics,
    pub http_metrics: HttpMetrics,
    pub engine_metrics: EngineMetrics,
    /// Reads texts for the model.
    pub reader: Reader,
    /// Long texts that may be read at once: one for each core.
    pub(super) readers: Arc<Semaphore>,
    pub detector: Arc<Detector>,
    pub glossaries: Glossaries,
    /// Translated ones, until they are fetched.
    pub files: Files,
    pub deepl_usage: Usage,
    phase: watch::Sender<Phase>,
    admission: Arc<Semaphore>,
}

impl App {
    /// `metrics` must be those that the engine counts with, under the model's name.
    pub fn new(model: Model, engine: Handle, settings: HttpSettings, metrics: Metrics) -> Self {
        let engine_metrics = metrics.engine(&model.name);
        engine_metrics.describe(&model.checksum, &model.dtype, &model.device);
        Self {
            http_metrics: metrics.http(&ROUTES),
            engine_metrics,
            reader: {
                let Pair { source, target, .. } = &model.pair;
                Reader::new(model.tokenizer.clone(), source, target, engine.limits().source_tokens)
            },
            readers: Arc::new(Semaphore::new(one_for_each_core().get())),
            detector: Arc::new(Detector::new(model.pair.clone())),
            glossaries: Glossaries::default(),
            files: Files::default(),
            deepl_usage: Usage::default(),
            phase: watch::Sender::new(Phase::Starting),
            admission: Arc::new(Semaphore::new(settings.max_concurrent_requests)),
            model,
            engine,
            settings,
            metrics,
        }
    }

    /// Canvases of a sentence whose request does not say how many.
    pub fn default_length_beam(&self) -> usize {
        match self.settings.default_length_beam {
            0 => self.engine.limits().usual_beam().min(self.settings.max_length_beam),
            set => set,
        }
    }

    /// What requests are checked against.
    pub fn abilities(&self) -> Abilities<'_> {
        Abilities {
            limits: &self.settings,
            model: &self.model.name,
            pair: &self.model.pair,
            default_steps: self.model.default_steps,
            max_steps: self.model.max_steps,
            default_length_beam: self.default_length_beam(),
        }
    }

    /// The parameters of a request whose head `arrived` then.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the warm-up is done, [`ApiError::SlowBody`] where the body is not there in the time of a request, and what
    /// [`Params::read`] fails with.
    pub(super) async fn read(&self, request: Request, arrived: Instant) -> Result<Params, ApiError> {
        self.open()?;
        let reading = Params::read(request, self.settings.max_body_bytes);
        let limit = self.settings.request_timeout;
        timeout_at((arrived + limit).into(), reading).await.map_err(|_| ApiError::SlowBody { limit })?
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves on; a server that drains does not become ready again.
    pub(super) fn enter(&self, phase: Phase) {
        let moved = self.phase.send_if_modified(|now| {
            let moves = phase > *now;
            *now = phase.max(*now);
            moves
        });
        if moved {
            self.http_metrics.set_ready(phase == Phase::Ready);
        }
    }

    /// Whether requests are taken at all.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the warm-up is done. While draining, requests that still get in are served:
    /// they were accepted.
    pub(super) fn open(&self) -> Result<(), ApiError> {
        match self.phase() {
            Phase::Starting => Err(Error::NotReady.into()),
            Phase::Ready | Phase::Draining => Ok(()),
        }
    }

    /// Leave to work on a translation, held until it is answered. For requests that have arrived whole.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`] when as many are in progress as may be.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.admission.clone().try_acquire_owned().map_err(|_| {
            self.http_metrics.rejected(Rejected::QueueFull, 1);
            ApiError::TooManyRequests { limit: self.settings.max_concurrent_requests }
        })
    }
}
