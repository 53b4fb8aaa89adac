//! Translates a request of any dialect: splits its texts into sentences, submits them to the engine as items, and
//! assembles the answers.
//!
//! If the client disconnects, the future is dropped, which cancels all pending items.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::app::App;
use super::detect::{Detection, Detector};
use super::error::ApiError;
use super::guard::charge;
use super::reading::TextPermit;
use super::request::{BYTES_OF_A_TOKEN, TranslateRequest, check_chars};
use super::timings::Stages;
use super::trace;
use crate::decode::{MORE_LENGTHS, more_steps};
use crate::engine::{AdmissionEstimate, Item, Lowered, Outcome, Pending, Watch};
use crate::metrics::Rejected;
use crate::text::{self, Candidate, Passage, Reader, Request};
use crate::{Error, Result, documents, formats};

/// Maximum number of sentences of one request in the engine, so that a long document leaves room for other
/// requests and is not refused because of its length.
const WAVE: usize = 512;

/// Pause between two attempts to submit the rest of a long document.
const RETRY: Duration = Duration::from_millis(20);

/// The translation of a request.
#[derive(Debug)]
pub struct Translated {
    pub texts: Vec<TranslatedText>,
    pub stages: Stages,
    /// The highest number of any sentence.
    pub steps_used: usize,
    /// Why a sentence got fewer steps than requested.
    pub lowered: Option<Lowered>,
}

#[derive(Debug)]
pub struct TranslatedText {
    pub text: String,
    /// Other translations, best first.
    pub alternatives: Vec<String>,
    /// The outcomes of its sentences, in order.
    pub outcomes: Vec<Outcome>,
    /// If detection was requested.
    pub detected: Option<Detection>,
    pub warnings: Vec<&'static str>,
}

/// Warning for a text that is in another language or script than the source language's, or has parts that are.
pub const NOT_SOURCE_LANGUAGE: &str = "not_source_language";

/// A text, split into passages and tokenized.
#[derive(Debug)]
struct Prepared {
    /// `None` for a text that is returned unchanged.
    content: Option<Content>,
    detected: Option<Detection>,
    warnings: Vec<&'static str>,
}

#[derive(Debug)]
struct Content {
    document: formats::Document,
    /// Which texts of the document are kept as they are. Their passages are empty.
    kept: Vec<bool>,
    /// One for each text of the document.
    passages: Vec<Passage>,
    /// All outcomes of each passage, in the order of its requests.
    outcomes: Vec<Vec<Outcome>>,
}

/// # Errors
/// The errors of [`submit`](crate::engine::Handle::submit), [`Error::DeadlineExceeded`] after the request's time limit,
/// and [`Error::InvalidRequest`] for a text that does not have its format.
pub async fn translate(
    app: &App,
    request: &TranslateRequest,
    arrived: Instant,
) -> Result<Translated, ApiError> {
    let timeout = request.effort.timeout;
    match timeout_at((arrived + timeout).into(), run(app, request, arrived)).await {
        Ok(done) => done,
        Err(_) => Err(Error::DeadlineExceeded(timeout).into()),
    }
}

async fn run(app: &App, request: &TranslateRequest, arrived: Instant) -> Result<Translated, ApiError> {
    let deadline = arrived + request.effort.timeout;
    app.engine.precheck(AdmissionEstimate {
        sentences: request.texts.len(),
        tokens: request.texts.iter().map(|text| text.len() / BYTES_OF_A_TOKEN).sum(),
        steps: request.effort.steps_min,
        length_beam: request.effort.length_beam,
        deadline: Some(deadline),
    })?;
    let trace = trace::sampled();
    let started = Instant::now();
    let bytes = request.texts.iter().map(String::len).sum();
    let permit = app.reading.acquire(bytes, request.detect).await;
    let permit = permit.inspect_err(|_| {
        app.engine_metrics.rejected(Rejected::QueueFull, request.texts.len());
    })?;
    let mut prepared = prepare(app, request, &permit).await?;
    // Charged only now, so that a request that is refused as too large costs nothing.
    charge(request.texts.iter().map(|text| text.chars().count()).sum())?;
    let mut stages = Stages { tokenize: started.elapsed(), ..Stages::default() };
    if let Some(trace) = &trace {
        let texts = ("tutti.texts", request.texts.len() as i64);
        trace.stage("tokenize", started, Instant::now(), &[texts]);
    }
    let mut submitted = 0;
    loop {
        let started = Instant::now();
        let (kept, requests) = permit.run(move || (requests(&mut prepared), prepared)).await.map(swapped)?;
        prepared = kept;
        let requests = requests?;
        if requests.iter().all(Vec::is_empty) {
            break;
        }
        let before = submitted;
        let items = items(app, &requests, before, request, deadline, trace.is_some());
        submitted += items.len();
        let first_round = before == 0;
        let preparing = started.elapsed();
        let outcomes = decode(app, items, first_round).await?;
        if let Some(trace) = &trace {
            trace.sentences(before, &outcomes);
        }
        let started = Instant::now();
        stages = stages.followed_by(Stages::of(outcomes.iter()));
        let work = move || (answer(&mut prepared, &requests, outcomes), prepared);
        let (kept, answered) = permit.run(work).await.map(swapped)?;
        prepared = kept;
        answered?;
        stages.detokenize += preparing + started.elapsed();
    }
    let started = Instant::now();
    let all =
        || prepared.iter().flat_map(|text| &text.content).flat_map(|content| &content.outcomes).flatten();
    for passage in prepared.iter().flat_map(|text| &text.content).flat_map(|content| &content.passages) {
        app.engine_metrics.repaired("again", passage.retried());
        passage.warnings().iter().for_each(|warning| app.engine_metrics.repaired(warning.name(), 1));
    }
    let steps_used = all().map(|outcome| outcome.steps_used).max().unwrap_or(0);
    let lowered = all().find_map(|outcome| outcome.lowered);
    let (sources, alternatives) = (Arc::clone(&request.texts), request.effort.alternatives);
    let finish = move || {
        let finished = prepared.into_iter().zip(sources.iter());
        finished.map(|(prepared, text)| prepared.finish(text, alternatives)).collect()
    };
    let texts = permit.run(finish).await?;
    stages.detokenize += started.elapsed();
    if let Some(trace) = &trace {
        trace.stage("detokenize", started, Instant::now(), &[]);
    }
    stages.total = arrived.elapsed();
    Ok(Translated { texts, stages, steps_used, lowered })
}

fn swapped<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The next requests of each passage of all texts.
fn requests(prepared: &mut [Prepared]) -> Result<Vec<Vec<Request>>> {
    let contents = prepared.iter_mut().filter_map(|text| text.content.as_mut());
    contents.flat_map(|content| &mut content.passages).map(Passage::requests).collect()
}

fn answer(prepared: &mut [Prepared], requests: &[Vec<Request>], outcomes: Vec<Outcome>) -> Result<()> {
    if outcomes.len() != requests.iter().map(Vec::len).sum::<usize>() {
        return Err(Error::EngineDead("fewer answers than sentences".into()));
    }
    let mut outcomes = outcomes.into_iter();
    let contents = prepared.iter_mut().filter_map(|text| text.content.as_mut());
    let passages = contents.flat_map(|content| content.passages.iter_mut().zip(&mut content.outcomes));
    for ((passage, all), requests) in passages.zip(requests) {
        let own: Vec<Outcome> = outcomes.by_ref().take(requests.len()).collect();
        let candidates = |outcome: &Outcome| outcome.hypotheses.iter().map(Candidate::from).collect();
        passage.answer(own.iter().map(candidates).collect())?;
        all.extend(own);
    }
    Ok(())
}

/// Splits and tokenizes texts; stops if the client disconnects.
async fn prepare(
    app: &App,
    request: &TranslateRequest,
    permit: &TextPermit,
) -> Result<Vec<Prepared>, ApiError> {
    let counted = app.engine_metrics.tokenizing(request.texts.len());
    let started = Instant::now();
    let preparing = Preparing {
        reader: app.reader.clone().until(permit.cancelled()),
        detector: app.detector.clone(),
        keep_other_languages: app.settings.keep_other_languages,
        max_text_chars: app.settings.max_text_chars,
    };
    let request = request.clone();
    let work = move || {
        let _counted = counted;
        preparing.all(&request)
    };
    let prepared = permit.run(work).await?;
    app.engine_metrics.tokenized(started.elapsed());
    prepared
}

struct Preparing {
    reader: Reader,
    detector: Arc<Detector>,
    keep_other_languages: bool,
    max_text_chars: usize,
}

impl Preparing {
    fn all(&self, request: &TranslateRequest) -> Result<Vec<Prepared>, ApiError> {
        let contents =
            request.texts.iter().map(|text| request.format.read(text)).collect::<Result<Vec<_>>>()?;
        let texts = contents.iter().flat_map(formats::Document::texts);
        check_chars(texts.map(|text| text.text.as_str()), self.max_text_chars)?;
        Ok(contents.into_iter().map(|content| self.text(content, request)).collect())
    }

    fn text(&self, document: formats::Document, request: &TranslateRequest) -> Prepared {
        let texts = document.texts();
        let other_script: Vec<bool> =
            texts.iter().map(|text| self.detector.in_other_script(&text.text)).collect();
        let any_other_script = other_script.contains(&true);
        let all_other_script = any_other_script && !other_script.contains(&false);
        let detected = request.detect.then(|| {
            let texts = texts.iter().map(|text| text.text.as_str());
            let texts: Vec<(&str, bool)> = texts.zip(other_script.iter().copied()).collect();
            self.detector.decide_over(&texts)
        });
        let other_language = detected.as_ref().is_some_and(|detection| !self.detector.is_source(detection));
        let foreign = other_language || any_other_script;
        let warnings = if foreign { vec![NOT_SOURCE_LANGUAGE] } else { Vec::new() };
        if self.keep_other_languages && (other_language || all_other_script) {
            return Prepared { content: None, detected, warnings };
        }
        let kept: Vec<bool> =
            other_script.into_iter().map(|other| other && self.keep_other_languages).collect();
        let glossary = request.glossary.as_deref();
        let read = |(text, &kept): (&formats::Text, &bool)| {
            if kept {
                self.reader.read("")
            } else {
                documents::passage(text, glossary, &self.reader, request.read)
            }
        };
        let passages: Vec<Passage> = texts.iter().zip(&kept).map(read).collect();
        let outcomes = passages.iter().map(|_| Vec::new()).collect();
        Prepared { content: Some(Content { document, kept, passages, outcomes }), detected, warnings }
    }
}

impl Prepared {
    fn finish(self, text: &str, alternatives: usize) -> TranslatedText {
        let Self { content, detected, mut warnings } = self;
        let Some(Content { document, kept, passages, outcomes }) = content else {
            let text = text.to_owned();
            return TranslatedText {
                text,
                alternatives: Vec::new(),
                outcomes: Vec::new(),
                detected,
                warnings,
            };
        };
        let translated = passages.iter().zip(kept);
        let translations: Vec<Option<String>> =
            translated.map(|(passage, kept)| (!kept).then(|| passage.text())).collect();
        let best = document.rebuild_partly(&translations);
        let ranked: Vec<Vec<String>> = if alternatives > 0 {
            passages.iter().map(|passage| passage.alternatives(alternatives)).collect()
        } else {
            Vec::new()
        };
        let mut others: Vec<String> = Vec::new();
        for rank in 0..ranked.iter().map(Vec::len).max().unwrap_or(0) {
            let texts = translations.iter().zip(&ranked).map(|(best, others)| {
                let best = best.as_ref()?;
                Some(others.get(rank).or(others.last()).unwrap_or(best).clone())
            });
            let other = document.rebuild_partly(&texts.collect::<Vec<_>>());
            if other != best && !others.contains(&other) {
                others.push(other);
            }
        }
        for warning in passages.iter().flat_map(Passage::warnings) {
            if !warnings.contains(&warning.name()) {
                warnings.push(warning.name());
            }
        }
        let used = |(passage, all): (&Passage, Vec<Outcome>)| {
            let used = passage.used();
            let mut all: Vec<Option<Outcome>> = all.into_iter().map(Some).collect();
            used.into_iter().filter_map(move |number| all.get_mut(number)?.take()).collect::<Vec<_>>()
        };
        let outcomes = passages.iter().zip(outcomes).flat_map(used).collect();
        TranslatedText { text: best, alternatives: others, outcomes, detected, warnings }
    }
}

/// The items for the requests. `before` items were submitted in earlier rounds. `sampled`: whether a collector gets
/// spans of this request.
fn items(
    app: &App,
    requests: &[Vec<Request>],
    before: usize,
    request: &TranslateRequest,
    deadline: Instant,
    sampled: bool,
) -> Vec<Item> {
    let effort = &request.effort;
    let max_steps = app.model.max_steps.min(app.settings.max_steps);
    let max_beam = app.settings.max_length_beam.max(effort.length_beam);
    let item = |(index, of_passage): (usize, &Request)| {
        let (steps, length_beam) = match of_passage.effort {
            text::Effort::Usual => (effort.steps, effort.length_beam),
            text::Effort::More => (
                more_steps(effort.steps).min(max_steps).max(effort.steps),
                (effort.length_beam + MORE_LENGTHS).min(max_beam),
            ),
        };
        Item {
            source: of_passage.source.clone(),
            steps,
            steps_min: effort.steps_min.min(steps),
            length_beam,
            // Twice as many, because some are dropped later: they lose a span or become equal to others.
            alternatives: 2 * effort.alternatives,
            collapse: true,
            trace: effort.trace,
            deadline: Some(deadline),
            watch: request.watch.clone().map(|sender| Watch { index: before + index, sender }),
            schedule: sampled && before + index < trace::MAX_SENTENCES,
        }
    };
    requests.iter().flatten().enumerate().map(item).collect()
}

/// Submits all items at once, or in waves if there are many. Only the first wave may be refused because of a full
/// queue; the others wait.
async fn decode(app: &App, mut items: Vec<Item>, may_refuse: bool) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut rest = items.split_off(wave(app, &items));
    let mut pending = if may_refuse { app.engine.submit(items)? } else { submit(app, items).await? };
    loop {
        for pending in pending {
            outcomes.push(pending.await?);
        }
        if rest.is_empty() {
            return Ok(outcomes);
        }
        let next = rest.split_off(wave(app, &rest));
        pending = submit(app, rest).await?;
        rest = next;
    }
}

/// Number of items of the next wave.
fn wave(app: &App, items: &[Item]) -> usize {
    let max = items.len().min(WAVE);
    app.engine.submit_count(&items[..max]).min(max)
}

/// Submits the items; waits while the queue is full.
async fn submit(app: &App, items: Vec<Item>) -> Result<Vec<Pending>> {
    loop {
        match app.engine.submit(items.clone()) {
            Err(Error::QueueFull { .. }) => sleep(RETRY).await,
            answer => return answer,
        }
    }
}
