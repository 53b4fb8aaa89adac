//! From a request of any dialect to its translation: texts are taken apart into sentences, which go to the
//! engine as items; what comes back is put together again.
//!
//! When the client goes away the future is dropped, and with it every pending item.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::app::App;
use super::detect::{Detection, Detector};
use super::error::ApiError;
use super::guard::charge;
use super::request::{TranslateRequest, check_chars};
use super::timings::Stages;
use crate::engine::{AdmissionEstimate, Item, Lowered, Outcome, Watch};
use crate::formats;
use crate::glossary::Glossary;
use crate::text::{Document, Tokenizer};
use crate::{Error, Result};

/// Texts up to so many bytes are tokenized where they arrive. Measured on two busy cores: 0.5 µs a byte
/// and 60 µs for a short sentence, against 20 to 100 µs for the way to another thread and back.
const INLINE_BYTES: usize = 512;

/// A little above what they are in most texts: what is refused for a guess should be too much indeed.
const BYTES_OF_A_TOKEN: usize = 6;

/// Sentences of one request that are in the engine at once. A long document takes its turns among
/// others, and is not refused for its length.
const WAVE: usize = 512;

/// Between two tries to hand in the rest of a long document.
const RETRY: Duration = Duration::from_millis(20);

/// What was made of a request.
#[derive(Debug)]
pub struct Translated {
    pub texts: Vec<TranslatedText>,
    pub stages: Stages,
    /// The most that any sentence took.
    pub steps_used: usize,
    /// Why some sentence got fewer than asked for.
    pub lowered: Option<Lowered>,
}

#[derive(Debug)]
pub struct TranslatedText {
    pub text: String,
    /// Other translations, best first.
    pub alternatives: Vec<String>,
    /// Of its sentences, in order.
    pub outcomes: Vec<Outcome>,
    /// Where detection was asked for.
    pub detected: Option<Detection>,
    pub warnings: Vec<&'static str>,
}

/// The text is in the target language or in another script than the source language's.
pub const NOT_SOURCE_LANGUAGE: &str = "not_source_language";

/// A text on its way: taken apart down to what the model reads.
#[derive(Debug)]
struct Prepared {
    /// None for a text that is given back as it is.
    content: Option<(formats::Document, Vec<Vec<Chunk>>)>,
    detected: Option<Detection>,
    warnings: Vec<&'static str>,
}

/// A part of a text of a document.
#[derive(Debug)]
enum Chunk {
    /// As it comes back.
    Kept(String),
    Text(Document),
}

/// # Errors
/// What the engine refuses, [`Error::DeadlineExceeded`] once the request's time is over, and
/// [`Error::InvalidRequest`] for a text that is not what its format says.
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
    charge(request.texts.iter().map(|text| text.chars().count()).sum())?;
    let begun = Instant::now();
    let prepared = prepare(app, request).await?;
    let tokenize = begun.elapsed();
    let outcomes = decode(app, items(&prepared, request, deadline)).await?;
    let stages = Stages { tokenize, ..Stages::of(outcomes.iter()) };

    let begun = Instant::now();
    let steps_used = outcomes.iter().map(|outcome| outcome.steps_used).max().unwrap_or(0);
    let lowered = outcomes.iter().find_map(|outcome| outcome.lowered);
    let mut outcomes = outcomes.into_iter();
    let texts = prepared
        .into_iter()
        .zip(&request.texts)
        .map(|(prepared, text)| {
            let own = outcomes.by_ref().take(prepared.sentences().count()).collect();
            prepared.finish(text, own, request.effort.alternatives, &app.model.tokenizer)
        })
        .collect::<Result<Vec<_>>>()?;
    let stages = Stages { detokenize: begun.elapsed(), total: arrived.elapsed(), ..stages };
    Ok(Translated { texts, stages, steps_used, lowered })
}

/// Takes texts apart and tokenizes them; long ones off the async threads.
async fn prepare(app: &App, request: &TranslateRequest) -> Result<Vec<Prepared>, ApiError> {
    let _counted = app.engine_metrics.tokenizing(request.texts.len());
    let begun = Instant::now();
    let preparing = Preparing {
        tokenizer: app.model.tokenizer.clone(),
        detector: app.detector.clone(),
        limit: app.engine.limits().source_tokens,
        keep_other_languages: app.settings.keep_other_languages,
        max_text_chars: app.settings.max_text_chars,
    };
    let bytes: usize = request.texts.iter().map(String::len).sum();
    let prepared = if bytes <= INLINE_BYTES && !request.detect {
        preparing.all(request)
    } else {
        let request = request.clone();
        tokio::task::spawn_blocking(move || preparing.all(&request))
            .await
            .map_err(|error| Error::Tokenizer(format!("the tokenizer's thread: {error}")))?
    };
    app.engine_metrics.tokenized(begun.elapsed());
    prepared
}

struct Preparing {
    tokenizer: Arc<Tokenizer>,
    detector: Arc<Detector>,
    /// Tokens of a sentence.
    limit: usize,
    keep_other_languages: bool,
    max_text_chars: usize,
}

impl Preparing {
    fn all(&self, request: &TranslateRequest) -> Result<Vec<Prepared>, ApiError> {
        let contents =
            request.texts.iter().map(|text| request.format.read(text)).collect::<Result<Vec<_>>>()?;
        let texts = contents.iter().flat_map(formats::Document::texts);
        check_chars(texts.map(|text| text.text.as_str()), self.max_text_chars)?;
        Ok(contents.into_iter().map(|content| self.text(content, request)).collect::<Result<_>>()?)
    }

    fn text(&self, content: formats::Document, request: &TranslateRequest) -> Result<Prepared> {
        let detected = request.detect.then(|| {
            let texts: Vec<&str> = content.texts().iter().map(|text| text.text.as_str()).collect();
            self.detector.decide(&texts.join("\n"))
        });
        let other_language = detected.as_ref().is_some_and(|detection| !self.detector.is_source(detection));
        let foreign =
            other_language || content.texts().iter().any(|text| self.detector.in_other_script(&text.text));
        if foreign && self.keep_other_languages {
            return Ok(Prepared { content: None, detected, warnings: vec![NOT_SOURCE_LANGUAGE] });
        }
        let chunks = content.texts().iter().map(|text| self.chunks(text, request.glossary.as_deref()));
        let chunks = chunks.collect::<Result<_>>()?;
        let warnings = if foreign { vec![NOT_SOURCE_LANGUAGE] } else { Vec::new() };
        Ok(Prepared { content: Some((content, chunks)), detected, warnings })
    }

    /// Around the terms of a glossary and the tags.
    fn chunks(&self, text: &formats::Text, glossary: Option<&Glossary>) -> Result<Vec<Chunk>> {
        let formats::Text { text, tags } = text;
        let read = |text: &str| Document::read(text, &self.tokenizer, self.limit).map(Chunk::Text);
        let mut kept = glossary.map(|glossary| glossary.find(text)).unwrap_or_default();
        // A term never reaches over a tag, whose character is in no term.
        kept.extend(tags.iter().map(|tag| (tag.clone(), &text[tag.clone()])));
        kept.sort_by_key(|(place, _)| place.start);
        let mut chunks = Vec::with_capacity(2 * kept.len() + 1);
        let mut done = 0;
        for (place, replacement) in kept {
            let Some(between) = text.get(done..place.start) else { continue };
            chunks.push(read(between)?);
            chunks.push(Chunk::Kept(replacement.to_owned()));
            done = place.end;
        }
        chunks.push(read(&text[done..])?);
        Ok(chunks)
    }
}

impl Prepared {
    fn sentences(&self) -> impl Iterator<Item = &Vec<u32>> {
        let chunks = self.content.iter().flat_map(|(_, chunks)| chunks).flatten();
        chunks.flat_map(|chunk| match chunk {
            Chunk::Kept(_) => Default::default(),
            Chunk::Text(document) => document.sentences(),
        })
    }

    fn finish(
        self,
        text: &str,
        outcomes: Vec<Outcome>,
        alternatives: usize,
        tokenizer: &Tokenizer,
    ) -> Result<TranslatedText> {
        if outcomes.len() != self.sentences().count() {
            return Err(Error::EngineDead("fewer answers than sentences".into()));
        }
        let best = self.of_rank(text, &outcomes, 0, tokenizer)?;
        let mut others: Vec<String> = Vec::with_capacity(alternatives);
        if alternatives > 0 {
            let ranks = outcomes.iter().map(|outcome| outcome.hypotheses.len()).max().unwrap_or(0);
            for rank in 1..ranks {
                let other = self.of_rank(text, &outcomes, rank, tokenizer)?;
                if others.len() < alternatives && other != best && !others.contains(&other) {
                    others.push(other);
                }
            }
        }
        let Self { detected, warnings, .. } = self;
        Ok(TranslatedText { text: best, alternatives: others, outcomes, detected, warnings })
    }

    /// The text in the words of each sentence's `rank`-th hypothesis, or of its last.
    fn of_rank(
        &self,
        text: &str,
        outcomes: &[Outcome],
        rank: usize,
        tokenizer: &Tokenizer,
    ) -> Result<String> {
        let Some((content, chunks)) = &self.content else { return Ok(text.to_owned()) };
        let mut outcomes = outcomes.iter();
        let mut chunk_text = |chunk: &Chunk| match chunk {
            Chunk::Kept(kept) => Ok(kept.clone()),
            Chunk::Text(document) => {
                let own = outcomes.by_ref().take(document.sentences().len());
                let words = own.map(|outcome| words(outcome, rank, tokenizer)).collect::<Result<Vec<_>>>()?;
                Ok(document.rejoin(&words))
            }
        };
        let translations = chunks
            .iter()
            .map(|chunks| chunks.iter().map(&mut chunk_text).collect::<Result<String>>())
            .collect::<Result<Vec<_>>>()?;
        Ok(content.rebuild(&translations))
    }
}

fn words(outcome: &Outcome, rank: usize, tokenizer: &Tokenizer) -> Result<String> {
    let last = outcome.hypotheses.len().saturating_sub(1);
    let hypothesis = outcome.hypotheses.get(rank.min(last));
    hypothesis.map_or(Ok(String::new()), |hypothesis| tokenizer.decode(&hypothesis.tokens))
}

fn items(prepared: &[Prepared], request: &TranslateRequest, deadline: Instant) -> Vec<Item> {
    let sentences = prepared.iter().flat_map(Prepared::sentences);
    let item = |(index, source): (usize, &Vec<u32>)| Item {
        source: source.clone(),
        steps: request.effort.steps,
        steps_min: request.effort.steps_min,
        length_beam: request.effort.length_beam,
        collapse: true,
        trace: request.effort.trace,
        deadline: Some(deadline),
        watch: request.watch.clone().map(|sender| Watch { index, sender }),
    };
    sentences.enumerate().map(item).collect()
}

/// Hands in all items at once, or wave by wave where there are many: then only the first wave may be
/// refused for want of room.
async fn decode(app: &App, mut items: Vec<Item>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut rest = items.split_off(items.len().min(WAVE));
    let mut pending = app.engine.submit(items)?;
    loop {
        for pending in pending {
            outcomes.push(pending.await?);
        }
        if rest.is_empty() {
            return Ok(outcomes);
        }
        let next = rest.split_off(rest.len().min(WAVE));
        pending = loop {
            match app.engine.submit(rest.clone()) {
                Err(Error::QueueFull { .. }) => sleep(RETRY).await,
                answer => break answer?,
            }
        };
        rest = next;
    }
}
