//! The models that are served: one [`App`] for each, in the order of the settings. A request is answered by one
//! of them from its first step to its last; a model that is loaded again takes the place of the old one between
//! two requests, and the old one ends when its last request has.

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

/// Loads a model by its name, from the settings as they are. Blocks; checks the known sentence.
pub type Loader = Box<dyn Fn(&str) -> Result<(Model, Engine)> + Send + Sync>;

/// How parameters are called in the dialects.
const SOURCES: [&str; 3] = ["source", "from", "source_lang"];
const TARGETS: [&str; 3] = ["target", "to", "target_lang"];

/// Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    served: RwLock<Vec<Arc<App>>>,
    loader: Option<Loader>,
    /// Why an engine died.
    died: watch::Sender<Option<String>>,
    /// One is loaded at a time: there is room for one more, not for several.
    loading: tokio::sync::Mutex<()>,
}

impl Models {
    /// # Errors
    /// [`Error::Config`] for none at all, and for two of one name.
    pub fn new(apps: Vec<App>, loader: Option<Loader>) -> Result<Self> {
        if apps.is_empty() {
            return Err(Error::Config("models: there must be at least one".into()));
        }
        for (index, app) in apps.iter().enumerate() {
            if apps[..index].iter().any(|other| other.model.name == app.model.name) {
                let name = &app.model.name;
                return Err(Error::Config(format!(
                    "models: the name {name} is there twice; give one of them another"
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

    /// The one that answers where a request does not say.
    pub fn first(&self) -> Arc<App> {
        let served = self.0.served.read().unwrap_or_else(PoisonError::into_inner);
        // `new` takes no empty list, and nothing is ever taken out.
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

    /// The parameters of a request whose head `arrived` then, and the model that they are for.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the warm-up is done, [`ApiError::SlowBody`] where the body is not there in its time, and
    /// what [`Params::read`] fails with.
    pub(super) async fn read(
        &self,
        request: Request,
        arrived: Instant,
    ) -> Result<(Arc<App>, Params), ApiError> {
        let first = self.first();
        first.open()?;
        let reading = Params::read(request, first.settings.max_body_bytes);
        let limit = first.settings.body_timeout;
        let params = timeout_at((arrived + limit).into(), reading).await;
        let params = params.map_err(|_| ApiError::SlowBody { limit })??;
        Ok((self.of_request(&params), params))
    }

    /// The one that a request is for: by the name of the model, or by its languages. Where none fits, one that can
    /// say what is wrong.
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

    /// Loads a model again, warms it up, and puts it in the place of the one of that name.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is not served, and whatever loading or warming up fails with; then the old
    /// one stays.
    pub async fn reload(&self, name: &str) -> Result<()> {
        // In a task of its own: a caller that leaves must not free the lock while its model is still being loaded.
        let (models, own) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move { models.load_again(&own).await });
        task.await.map_err(|error| Error::Model(format!("loading {name}: {error}")))?
    }

    async fn load_again(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.0.loading.lock().await;
        let old = self.all().into_iter().find(|app| app.model.name == name);
        let (Some(old), Some(_)) = (old, &self.0.loader) else {
            return Err(Error::Config(format!("model {name} is not served")));
        };
        let (models, loaded_name) = (self.clone(), name.to_owned());
        let loading = tokio::task::spawn_blocking(move || {
            let loader = models.0.loader.as_ref();
            loader
                .map_or_else(|| Err(Error::Config("nothing loads models".into())), |load| load(&loaded_name))
        });
        let (model, engine) =
            loading.await.map_err(|error| Error::Model(format!("loading {name}: {error}")))??;
        let fresh = Arc::new(old.with_model(model, engine));
        warm_up::warm_up(&fresh).await?;
        fresh.describe();
        self.watch(fresh.engine.clone());
        let mut served = self.0.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = served.iter_mut().find(|app| app.model.name == name) {
            *place = fresh;
        }
        Ok(())
    }

    /// From now on the death of an engine is the death of the server.
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
        // The sender lives as long as this, so that the wait itself cannot fail.
        let _ = died.wait_for(Option::is_some).await;
        Error::EngineDead(died.borrow().clone().unwrap_or_default())
    }

    /// Ends all engines and waits until everybody is answered, but not for longer than `patience`. Says whether all
    /// have ended.
    pub(super) async fn drain(&self, patience: Duration) -> Result<bool> {
        let all = self.all();
        all.iter().for_each(|app| app.engine.drain());
        let stopped = async {
            for app in &all {
                app.engine.stopped().await?;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(patience, stopped).await {
            Ok(stopped) => stopped.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// What a handler sees before it knows what is asked: the first model, and the way to the others.
impl FromRef<Models> for Arc<App> {
    fn from_ref(models: &Models) -> Self {
        models.first()
    }
}
