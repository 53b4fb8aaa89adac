//! The state of the handlers: the model's description, the engine's handle, limits and counters.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::detect::Detector;
use super::error::ApiError;
use super::files::Files;
use super::glossary_store::Glossaries;
use super::keys::Keys;
use super::languages::Pair;
use super::lifecycle::{Lifecycle, Phase};
use super::reading::Reading;
use super::request::{Abilities, BYTES_OF_A_TOKEN};
use super::routes::ROUTES;
use super::trace::Traces;
use super::usage::Usage;
use crate::decode::Steps;
use crate::engine::{Engine, Handle};
use crate::metrics::{EngineMetrics, HttpMetrics, Metrics};
use crate::model::Score;
use crate::settings::HttpSettings;
use crate::text::{Reader, Tokenizer};

/// The description of the model behind the engine.
pub struct Model {
    pub name: String,
    pub pair: Pair,
    /// Checksum of the bundle's weights.
    pub checksum: String,
    pub dtype: String,
    pub device: String,
    /// Why the model runs on a CPU although a GPU was preferred.
    pub cpu_fallback_reason: Option<String>,
    /// Whether a shortlist limits the vocabulary of each sentence.
    pub shortlist: bool,
    /// Whether a language model scores the readings of an Imputer's slots.
    pub lm: bool,
    pub default_steps: Steps,
    pub max_steps: Steps,
    /// Measured by `train evaluate`.
    pub scores: Vec<Score>,
    pub tokenizer: Arc<Tokenizer>,
}

/// A model, and the state that all models of the server share.
pub struct App {
    pub model: Model,
    pub engine: Handle,
    pub engine_metrics: EngineMetrics,
    /// Reads texts for the model.
    pub reader: Reader,
    pub(super) reading: Reading,
    pub detector: Arc<Detector>,
    pub settings: Arc<HttpSettings>,
    pub metrics: Arc<Metrics>,
    pub http_metrics: HttpMetrics,
    pub glossaries: Arc<Glossaries>,
    /// Translated files, until they are downloaded.
    pub files: Arc<Files>,
    pub deepl_usage: Arc<Usage>,
    /// The API keys; `None` if the API is open.
    pub keys: Option<Arc<Keys>>,
    /// Where the spans of requests are sent.
    pub traces: Traces,
    pub(super) lifecycle: Lifecycle,
    /// Drained by its drop, when the last request of this model has ended.
    _engine: Option<Engine>,
}

impl App {
    /// `metrics` must be the ones that the engine uses, under the model's name.
    pub fn new(
        model: Model,
        engine: Handle,
        settings: HttpSettings,
        metrics: impl Into<Arc<Metrics>>,
    ) -> Self {
        let metrics = metrics.into();
        let http_metrics = metrics.http(&ROUTES);
        let app = Self {
            lifecycle: Lifecycle::new(settings.max_concurrent_requests, http_metrics.clone()),
            http_metrics,
            engine_metrics: metrics.engine(&model.name),
            reader: reader(&model, &engine),
            reading: Reading::new(engine.max_queue_tokens().saturating_mul(BYTES_OF_A_TOKEN)),
            detector: Arc::new(Detector::new(model.pair.clone())),
            glossaries: Arc::default(),
            files: Arc::default(),
            deepl_usage: Arc::default(),
            keys: None,
            traces: Traces::default(),
            model,
            engine,
            settings: Arc::new(settings),
            metrics,
            _engine: None,
        };
        app.describe();
        app
    }

    /// Keeps the engine alive while the model is served.
    pub fn owning(self, engine: Engine) -> Self {
        Self { _engine: Some(engine), ..self }
    }

    /// The same server with another model.
    pub fn with_model(&self, model: Model, engine: Engine) -> Self {
        let detector = match model.pair == self.model.pair {
            true => self.detector.clone(),
            false => Arc::new(Detector::new(model.pair.clone())),
        };
        Self {
            engine_metrics: self.metrics.engine(&model.name),
            reader: reader(&model, &engine.handle()),
            reading: self.reading.clone(),
            detector,
            settings: self.settings.clone(),
            metrics: self.metrics.clone(),
            http_metrics: self.http_metrics.clone(),
            glossaries: self.glossaries.clone(),
            files: self.files.clone(),
            deepl_usage: self.deepl_usage.clone(),
            keys: self.keys.clone(),
            traces: self.traces.clone(),
            lifecycle: self.lifecycle.clone(),
            model,
            engine: engine.handle(),
            _engine: Some(engine),
        }
    }

    /// Writes the model's description to the metrics.
    pub fn describe(&self) {
        let Model { checksum, dtype, device, .. } = &self.model;
        self.engine_metrics.describe(checksum, dtype, device);
    }

    /// The length beam of requests without `length_beam`.
    pub fn default_length_beam(&self) -> usize {
        match self.settings.default_length_beam {
            0 => self.engine.limits().default_length_beam().min(self.settings.max_length_beam),
            set => set,
        }
    }

    /// The limits that requests are checked against.
    pub fn abilities(&self) -> Abilities<'_> {
        Abilities {
            limits: &self.settings,
            model: &self.model.name,
            pair: &self.model.pair,
            default_steps: self.model.default_steps,
            max_steps: self.model.max_steps,
            default_length_beam: self.default_length_beam(),
            reads_slots: self.engine.limits().has_blanks,
        }
    }

    pub fn phase(&self) -> Phase {
        self.lifecycle.phase()
    }

    /// As [`Lifecycle::admit`].
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.lifecycle.admit()
    }
}

fn reader(model: &Model, engine: &Handle) -> Reader {
    let Pair { source, target, .. } = &model.pair;
    Reader::new(model.tokenizer.clone(), source, target, engine.limits().source_tokens)
}
