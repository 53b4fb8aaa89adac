//! Opens and checks the models of the settings, and starts their engines.

use std::sync::Arc;

use tutti::decode::{InferenceModel, Steps};
use tutti::engine::{self, Engine};
use tutti::http::{App, Keys, Model, Models, Pair, Traces};
use tutti::metrics::Metrics;
use tutti::model::Backend;
use tutti::settings::Settings;
use tutti::{Error, Result, known};

use super::model::Served;

/// All models, ready to be served.
pub fn open(settings: &Settings, served: Vec<Served>) -> Result<Models> {
    let metrics = Arc::new(Metrics::new());
    let mut apps: Vec<App> = Vec::with_capacity(served.len());
    let keys = settings.http.api_keys.as_deref().map(Keys::open).transpose()?.map(Arc::new);
    let traces = Traces::open(&settings.http)?;
    for each in &served {
        let (model, engine) = load(settings, each, &metrics)?;
        let app = match apps.first() {
            Some(first) => first.with_model(model, engine),
            None => {
                let mut app = App::new(model, engine.handle(), settings.http.clone(), metrics.clone());
                app.keys = keys.clone();
                app.traces = traces.clone();
                app.owning(engine)
            }
        };
        app.describe();
        apps.push(app);
    }
    let names: Vec<String> = apps.iter().map(|app| app.model.name.clone()).collect();
    let settings = settings.clone();
    let loader = move |name: &str| {
        let each = names.iter().zip(&served).find(|(known, _)| *known == name);
        let (_, each) = each.ok_or_else(|| Error::Config(format!("model {name} is not served")))?;
        if each.place.is_built_in() {
            return Err(Error::Config(format!(
                "model {name} is built into the program and cannot be reloaded"
            )));
        }
        // The model keeps its name, even if its folder is a link that has changed.
        let mut each = each.clone();
        each.settings.name = Some(name.to_owned());
        load(&settings, &each, &metrics)
    };
    Models::new(apps, Some(Box::new(loader)))
}

fn load(settings: &Settings, served: &Served, metrics: &Metrics) -> Result<(Model, Engine)> {
    let Served { place, settings: each } = served;
    let backend =
        Backend::choose(each.device, each.dtype)?.with_shortlist(settings.shortlist).with_lm(settings.lm);
    let bundle = place.open()?;
    let name = each.name.clone().unwrap_or_else(|| bundle.name.clone());
    tracing::info!(model = name, %place, "opened");
    match backend.cpu_fallback_reason() {
        Some(reason) => tracing::info!(model = name, reason, "computing {backend}, not on a GPU"),
        None => tracing::info!(model = name, "computing {backend}"),
    }
    let steps = |steps| {
        Steps::new(steps).ok_or_else(|| Error::Config("a bundle must allow at least one step".into()))
    };
    let max_steps = steps(bundle.config.max_steps)?;
    let network = InferenceModel::open(&bundle, &backend)?;
    known::check(&network, &bundle)?;
    let model = Model {
        name: name.clone(),
        pair: Pair { source: bundle.config.source.clone(), target: bundle.config.target.clone() },
        checksum: bundle.checksum.clone(),
        dtype: backend.dtype().name().to_owned(),
        device: backend.device_name(),
        cpu_fallback_reason: backend.cpu_fallback_reason().map(str::to_owned),
        shortlist: network.has_shortlist(),
        lm: network.has_lm(),
        default_steps: each.default_steps.unwrap_or(steps(bundle.config.default_steps)?).min(max_steps),
        max_steps,
        scores: bundle.config.scores.clone(),
        tokenizer: bundle.tokenizer.clone(),
    };
    if let Some(gpu) = network.gpu_report() {
        tracing::info!(model = name, gpu, "warmed up");
    }
    let engine_metrics = metrics.engine(&name);
    if network.halvings() > 0 {
        let halvings = network.halvings();
        tracing::warn!(
            halvings,
            "the GPU has little free memory: large batches are computed in several parts"
        );
        engine_metrics.out_of_memory(halvings);
    }
    let options = engine::Options { threads: each.threads, ..settings.engine.clone() };
    let options = options.fitted(network.device_rows());
    let engine::Options { threads, max_batch_tokens, max_batch_rows, lookahead, .. } = options;
    tracing::info!(model = name, threads, max_batch_tokens, max_batch_rows, lookahead, "limits of a batch");
    let engine = engine::start(network, options, engine_metrics)?;
    Ok((model, engine))
}
