//! The served models: one [`App`] for each, in the order of the settings. A reloaded model replaces the old one
//! for new requests; the old one finishes its requests and then ends.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRef, Request};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::app::{App, Model};
use super::error::ApiError;
use super::languages::Pair;
use super::params::Params;
use super::warm_up;
use crate::engine::{Engine, Handle};
use crate::{Error, Result};

/// Loads the model with a name and checks its known sentence. Blocks.
pub type Loader = Box<dyn Fn(&str) -> Result<(Model, Engine)> + Send + Sync>;

/// The names of the language parameters in all dialects.
const SOURCES: [&str; 3] = ["source", "from", "source_lang"];
const TARGETS: [&str; 3] = ["target", "to", "target_lang"];

/// Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    served: RwLock<Vec<Arc<App>>>,
    loader: Option<Loader>,
    /// The reason of an engine that died.
    died: watch::Sender<Option<String>>,
    /// Held while a model is loaded: the memory may not suffice for several at once.
    loading: tokio::sync::Mutex<()>,
}

impl Models {
    /// # Errors
    /// [`Error::Config`] for an empty list and for two models with the same name.
    pub fn new(apps: Vec<App>, loader: Option<Loader>) -> Result<Self> {
        if apps.is_empty() {
            return Err(Error::Config("models: there must be at least one".into()));
        }
        for (index, app) in apps.iter().enumerate() {
            if apps[..index].iter().any(|other| other.model.name == app.model.name) {
                let name = &app.model.name;
                return Err(Error::Config(format!(
                    "models: the name {name} is used twice; rename one of the models"
                )));
            }
        }
        let served = RwLock::new(apps.into_iter().map(Arc::new).collect());
        let died = watch::Sender::new(None);
        Ok(Self(Arc::new(Inner { served, loader, died, loading: tokio::sync::Mutex::default() })))
    }

    /// In the order of the settings.
    pub fn all(&self) -> Vec<Arc<App>> {
        self.0.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The model of requests that name no model and no languages.
    pub fn first(&self) -> Arc<App> {
        let served = self.0.served.read().unwrap_or_else(PoisonError::into_inner);
        // `new` refuses an empty list, and no model is ever removed.
        Arc::clone(&served[0])
    }

    /// The pairs of all models, each once.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for app in self.all() {
            if !pairs.contains(&app.model.pair) {
                pairs.push(app.model.pair.clone());
            }
        }
        pairs
    }

    /// Reads the parameters of a request and chooses its model. `arrived` is the time of the head.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the warm-up is done, [`ApiError::SlowBody`] if the body does not arrive in time, and
    /// the errors of [`Params::read`].
    pub(super) async fn read(
        &self,
        request: Request,
        arrived: Instant,
    ) -> Result<(Arc<App>, Params), ApiError> {
        let first = self.first();
        first.lifecycle.check_ready()?;
        let reading = Params::read(request, first.settings.max_body_bytes);
        let limit = first.settings.body_timeout;
        let params = timeout_at((arrived + limit).into(), reading).await;
        let params = params.map_err(|_| ApiError::SlowBody { limit })??;
        Ok((self.of_request(&params), params))
    }

    /// Chooses the model of a request by its name or its languages. If none matches, returns one whose checks give
    /// the right error.
    pub fn of_request(&self, params: &Params) -> Arc<App> {
        let text = |keys: &[&str]| {
            let given = keys.iter().find_map(|key| params.text(key).ok().flatten());
            given.filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("auto")).map(str::to_owned)
        };
        let all = self.all();
        if let Some(name) = text(&["model"]) {
            let named = all.iter().find(|app| app.model.name == name);
            return named.cloned().unwrap_or_else(|| self.first());
        }
        let (source, target) = (text(&SOURCES), text(&TARGETS));
        let from = |app: &App| match &source {
            Some(source) => app.model.pair.resolve(source).is_ok_and(|code| code == app.model.pair.source),
            None => true,
        };
        let to = |app: &App| match &target {
            Some(target) => app.model.pair.resolve(target).is_ok_and(|code| code == app.model.pair.target),
            None => true,
        };
        let whole = all.iter().find(|app| from(app) && to(app));
        whole.or_else(|| all.iter().find(|app| from(app))).cloned().unwrap_or_else(|| self.first())
    }

    /// Loads a model, warms it up, and replaces the one of the same name.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is not served, and the errors of loading and warm-up; then the old model is
    /// kept.
    pub async fn reload(&self, name: &str) -> Result<()> {
        // In its own task: if the caller disconnects, the lock must be held until the model is loaded.
        let (models, own) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move { models.replace(&own).await });
        task.await.map_err(|error| Error::Model(format!("loading {name}: {error}")))?
    }

    async fn replace(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.0.loading.lock().await;
        let old = self.all().into_iter().find(|app| app.model.name == name);
        let (Some(old), Some(_)) = (old, &self.0.loader) else {
            return Err(Error::Config(format!("model {name} is not served")));
        };
        let (models, loaded_name) = (self.clone(), name.to_owned());
        let loading = tokio::task::spawn_blocking(move || {
            let loader = models.0.loader.as_ref();
            loader.map_or_else(
                || Err(Error::Config("this server cannot reload models".into())),
                |load| load(&loaded_name),
            )
        });
        let (model, engine) =
            loading.await.map_err(|error| Error::Model(format!("loading {name}: {error}")))??;
        let new = Arc::new(old.with_model(model, engine));
        warm_up::warm_up(&new).await?;
        new.describe();
        self.watch(new.engine.clone());
        let mut served = self.0.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = served.iter_mut().find(|app| app.model.name == name) {
            *place = new;
        }
        Ok(())
    }

    /// Reports the death of any engine to [`died`](Self::died).
    pub(super) fn watch_all(&self) {
        self.all().iter().for_each(|app| self.watch(app.engine.clone()));
    }

    fn watch(&self, engine: Handle) {
        let models = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            if let (Err(error), Some(models)) = (engine.stopped().await, models.upgrade()) {
                let reason = match error {
                    Error::EngineDead(reason) => reason,
                    other => other.to_string(),
                };
                models.died.send_replace(Some(reason));
            }
        });
    }

    /// Resolves when an engine has died.
    pub(super) async fn died(&self) -> Error {
        let mut died = self.0.died.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = died.wait_for(Option::is_some).await;
        Error::EngineDead(died.borrow().clone().unwrap_or_default())
    }

    /// Drains all engines and waits for at most `limit`. Returns whether all have ended.
    pub(super) async fn drain(&self, limit: Duration) -> Result<bool> {
        let all = self.all();
        all.iter().for_each(|app| app.engine.drain());
        let stopped = async {
            for app in &all {
                app.engine.stopped().await?;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(limit, stopped).await {
            Ok(stopped) => stopped.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// Handlers that need no particular model get the first one.
impl FromRef<Models> for Arc<App> {
    fn from_ref(models: &Models) -> Self {
        models.first()
    }
}
