//! `POST /translate/stream`: the body of `/translate`, answered with server-sent events. A `step` follows each pass
//! over a sentence; the last event is `done` with the answer of `/translate`, or `error`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::app::App;
use super::error::ApiError;
use super::guard::for_client;
use super::libretranslate::{self, Answer, slot_text};
use super::models::Models;
use super::shapes::{Failures, TranslateBody};
use super::trace::in_current_trace;
use super::translation::translate;
use crate::engine::CanvasUpdate;

/// One place of a canvas.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Slot {
    /// `_` for a mask, `·` for a blank; otherwise a token with the space before it.
    text: String,
    probability: f32,
    /// Whether the last step changed it.
    changed: bool,
}

#[derive(Debug, Serialize)]
struct Step {
    /// Index over all texts of the request.
    sentence: usize,
    step: usize,
    slots: Vec<Slot>,
    /// Time since the head of the request.
    elapsed_ms: f64,
}

/// The translation step by step, as server-sent events.
#[utoipa::path(
    post,
    path = "/translate/stream",
    tag = "translate",
    request_body = TranslateBody,
    responses((status = 200, description = "Events `step`, then `done` or `error`", content_type = "text/event-stream", body = String), Failures)
)]
pub async fn translate_stream(
    State(models): State<Models>,
    request: Request,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let arrived = Instant::now();
    let (app, params) = models.read(request, arrived).await?;
    let permit = app.admit()?;
    let (mut request, shape) = libretranslate::read(&app, &params)?;
    let (sender, updates) = unbounded_channel();
    request.watch = Some(sender);
    let served = Arc::clone(&app);
    let work = async move {
        let _permit = permit;
        let translated = translate(&served, &request, arrived).await?;
        let (name, tokenizer) = (&served.model.name, &served.model.tokenizer);
        Ok::<_, ApiError>(Answer::new(translated, &request, &shape, name, tokenizer)?)
    };
    let progress = Progress {
        app,
        arrived,
        updates,
        work: Some(Box::pin(in_current_trace(for_client(work)))),
        canvases: HashMap::new(),
        ready: VecDeque::new(),
    };
    // If the client disconnects, the stream and its work are dropped.
    Ok(Sse::new(unfold(progress, Progress::next)).keep_alive(KeepAlive::default()))
}

type Work = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send>>;

struct Progress {
    app: Arc<App>,
    arrived: Instant,
    updates: UnboundedReceiver<CanvasUpdate>,
    /// `None` when it is done.
    work: Option<Work>,
    /// The last canvas of each sentence.
    canvases: HashMap<usize, Vec<u32>>,
    ready: VecDeque<Event>,
}

impl Progress {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            let work = self.work.as_mut()?;
            tokio::select! {
                biased;
                Some(update) = self.updates.recv() => self.step(update),
                answer = work => {
                    self.work = None;
                    // Steps that arrived before the answer.
                    while let Ok(update) = self.updates.try_recv() {
                        self.step(update);
                    }
                    self.ready.push_back(last_event(answer));
                }
            }
        }
    }

    fn step(&mut self, update: CanvasUpdate) {
        let CanvasUpdate { index, step, canvas, log_probs, at } = update;
        let before = self.canvases.get(&index);
        let mut slots = Vec::with_capacity(canvas.len());
        for (place, (&id, log_prob)) in canvas.iter().zip(&log_probs).enumerate() {
            let Some(text) = slot_text(id, &self.app.model.tokenizer) else { continue };
            let masked = id == self.app.model.tokenizer.specials().mask;
            let same = before.and_then(|before| before.get(place)) == Some(&id);
            let probability = if masked { 0.0 } else { log_prob.exp() };
            slots.push(Slot { text, probability, changed: !masked && !same });
        }
        self.canvases.insert(index, canvas);
        let elapsed_ms = at.saturating_duration_since(self.arrived).as_micros() as f64 / 1000.0;
        self.ready.push_back(event("step", &Step { sentence: index, step, slots, elapsed_ms }));
    }
}

fn last_event(answer: Result<Answer, ApiError>) -> Event {
    match answer {
        Ok(answer) => event("done", &answer),
        Err(error) => event("error", &json!({ "error": error.message(), "code": error.code() })),
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).unwrap_or_else(|error| {
        tracing::error!(%error, "an event cannot be written");
        Event::default().event("error").data("{}")
    })
}
