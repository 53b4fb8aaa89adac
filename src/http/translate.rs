//! `POST /translate`, the own dialect: LibreTranslate's body and answer, and more for those who ask.
//!
//! A request is read and checked ([`TranslateRequest`]), its texts are taken apart into sentences ([`Document`]),
//! which go to the engine as items; what comes back is put together again ([`answer`](super::answer)).
//! When the client goes away the future of this handler is dropped, and with it every pending item.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout_at;

use super::answer::{Answer, Stages, answer};
use super::app::App;
use super::ask::TranslateRequest;
use super::error::ApiError;
use super::params::Params;
use super::router::SERVER_TIMING;
use crate::decode::Limits;
use crate::engine::{AdmissionEstimate, Item, Outcome};
use crate::text::{Document, Tokenizer};
use crate::{Error, Result};

/// Texts up to so many bytes are tokenized where they arrive. Measured on two busy cores: 0.5 µs a byte
/// and 60 µs for a short sentence, against 20 to 100 µs for the way to another thread and back.
const INLINE_BYTES: usize = 512;

/// A little above what they are in most texts: what is refused for a guess should be too much indeed.
const BYTES_OF_A_TOKEN: usize = 6;

pub async fn translate(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let _leave = app.admit()?;
    let limit = app.settings.request_timeout;
    let reading = Params::read(request, app.settings.max_body_bytes);
    let params = timeout_at((arrived + limit).into(), reading).await.map_err(|_| ApiError::SlowBody)??;
    let ask = TranslateRequest::read(&params, &app)?;
    let deadline = arrived + ask.timeout;
    match timeout_at(deadline.into(), run(&app, &ask, arrived)).await {
        Ok(done) => {
            let (answer, stages) = done?;
            let mut response = Json(answer).into_response();
            if let Some(timing) = stages.header() {
                response.headers_mut().insert(SERVER_TIMING.clone(), timing);
            }
            Ok(response)
        }
        Err(_) => Err(Error::DeadlineExceeded(ask.timeout).into()),
    }
}

async fn run(app: &App, ask: &TranslateRequest, arrived: Instant) -> Result<(Answer, Stages), ApiError> {
    app.engine.precheck(AdmissionEstimate {
        sentences: ask.texts.len(),
        tokens: ask.texts.iter().map(|text| text.len() / BYTES_OF_A_TOKEN).sum(),
        steps: ask.steps,
        length_beam: ask.length_beam,
        deadline: Some(arrived + ask.timeout),
    })?;
    let begun = Instant::now();
    let documents = read(app, &ask.texts).await?;
    let tokenize = begun.elapsed();
    let items = documents.iter().flat_map(Document::sentences).map(|source| Item {
        source: source.to_vec(),
        steps: ask.steps,
        length_beam: ask.length_beam,
        collapse: true,
        trace: ask.trace,
        deadline: Some(arrived + ask.timeout),
    });
    let pending = app.engine.submit(items.collect())?;
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(pending.len());
    for pending in pending {
        outcomes.push(pending.await?);
    }
    let stages = Stages { tokenize, ..Stages::of(&outcomes) };
    Ok(answer(app, ask, &documents, &outcomes, stages, arrived)?)
}

/// Takes texts apart and tokenizes them; long ones off the async threads.
async fn read(app: &App, texts: &[String]) -> Result<Vec<Document>> {
    let _counted = app.engine_metrics.tokenizing(texts.len());
    let begun = Instant::now();
    let limit = app.engine.limits().source_tokens;
    let read_all = move |texts: &[String], tokenizer: &Tokenizer| {
        texts.iter().map(|text| Document::read(text, tokenizer, limit)).collect::<Result<Vec<_>>>()
    };
    let bytes: usize = texts.iter().map(String::len).sum();
    let documents = if bytes <= INLINE_BYTES {
        read_all(texts, &app.model.tokenizer)
    } else {
        let (texts, tokenizer) = (texts.to_vec(), Arc::clone(&app.model.tokenizer));
        tokio::task::spawn_blocking(move || read_all(&texts, &tokenizer))
            .await
            .map_err(|error| Error::Tokenizer(format!("the tokenizer's thread: {error}")))?
    };
    app.engine_metrics.tokenized(begun.elapsed());
    documents
}

/// A short and a longer sentence, at the steps and the beam of most requests.
pub(super) async fn warm_up(app: &App) -> Result<()> {
    let Limits { source_tokens, .. } = app.engine.limits();
    let specials = app.model.tokenizer.specials();
    let word = app.model.tokenizer.encode("tutti")?;
    let word = word.iter().filter(|id| !specials.ids().contains(id));
    for tokens in [8, 32] {
        let words = word.clone().copied().cycle().take(tokens.min(source_tokens.saturating_sub(2)));
        let item = Item {
            source: std::iter::once(specials.bos).chain(words).chain([specials.eos]).collect(),
            steps: app.model.default_steps.min(app.settings.max_steps),
            length_beam: app.default_length_beam(),
            collapse: true,
            trace: false,
            deadline: None,
        };
        for pending in app.engine.submit(vec![item])? {
            pending.await?;
        }
    }
    Ok(())
}
