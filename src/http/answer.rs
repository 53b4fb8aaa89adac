//! From what the engine said to the JSON of the own dialect. Plain requests get LibreTranslate's
//! fields and nothing else; `meta` comes with the extensions.

use std::fmt::Write;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use serde::Serialize;
use serde_json::Value;

use super::app::App;
use super::ask::TranslateRequest;
use crate::engine::Outcome;
use crate::text::{Document, Tokenizer};
use crate::{Error, Result};

/// Where the time of a request went. Its sentences are translated side by side, so each stage is that
/// of the slowest sentence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    pub tokenize: Duration,
    pub queue: Duration,
    pub encode: Duration,
    pub decode: Duration,
    pub detokenize: Duration,
    /// From the head of the request to its answer: all of the above, and what lies between them.
    pub total: Duration,
}

impl Stages {
    pub fn of(outcomes: &[Outcome]) -> Self {
        let slowest = |stage: fn(&Outcome) -> Duration| outcomes.iter().map(stage).max().unwrap_or_default();
        Self {
            queue: slowest(|outcome| outcome.timings.queue),
            encode: slowest(|outcome| outcome.timings.encode),
            decode: slowest(|outcome| outcome.timings.decode),
            ..Self::default()
        }
    }

    fn named(&self) -> [(&'static str, Duration); 6] {
        [
            ("tokenize", self.tokenize),
            ("queue", self.queue),
            ("encode", self.encode),
            ("decode", self.decode),
            ("detokenize", self.detokenize),
            ("total", self.total),
        ]
    }

    /// `Server-Timing`, durations in milliseconds.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = String::with_capacity(128);
        for (name, duration) in self.named() {
            let (comma, micros) = (if text.is_empty() { "" } else { ", " }, duration.as_micros());
            // Whole numbers are several times cheaper to write than fractions, and this is on every answer.
            write!(text, "{comma}{name};dur={}.{:03}", micros / 1000, micros % 1000).ok()?;
        }
        HeaderValue::try_from(text).ok()
    }
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// One value where `q` was a string, as many as `q` had where it was an array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum AsAsked<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> AsAsked<T> {
    fn new(mut values: Vec<T>, many: bool) -> Self {
        match values.pop() {
            Some(only) if !many => Self::One(only),
            last => {
                values.extend(last);
                Self::Many(values)
            }
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    translated_text: AsAsked<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<AsAsked<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
}

#[derive(Debug, Serialize)]
struct Meta {
    model: String,
    steps: StepsMeta,
    length_beam: usize,
    timings_ms: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentences: Option<AsAsked<Vec<Sentence>>>,
}

#[derive(Debug, Serialize)]
struct StepsMeta {
    asked: usize,
    /// The most that any sentence took.
    used: usize,
}

#[derive(Debug, Serialize)]
struct Sentence {
    text: String,
    steps_used: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores>,
    /// The canvas after each step.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Scores {
    /// The geometric mean over the tokens.
    probability: f32,
    tokens: Vec<Token>,
}

#[derive(Debug, Serialize)]
struct Token {
    text: String,
    probability: f32,
}

/// `outcomes` are those of all documents' sentences, in order; the head of the request `arrived` then.
///
/// # Errors
/// What the tokenizer says to ids that it does not know, and an answer of the engine without a
/// hypothesis.
pub fn answer(
    app: &App,
    ask: &TranslateRequest,
    documents: &[Document],
    outcomes: &[Outcome],
    stages: Stages,
    arrived: Instant,
) -> Result<(Answer, Stages)> {
    let begun = Instant::now();
    let tokenizer = &app.model.tokenizer;
    let mut rest = outcomes;
    let mut texts = Vec::with_capacity(documents.len());
    let mut alternatives = Vec::new();
    let mut sentences = Vec::new();
    for document in documents {
        let (own, others) = rest
            .split_at_checked(document.sentences().len())
            .ok_or_else(|| Error::EngineDead("fewer answers than sentences".into()))?;
        rest = others;
        let text = rejoin(document, own, 0, tokenizer)?;
        if ask.alternatives > 0 {
            alternatives.push(others_than(&text, document, own, ask, tokenizer)?);
        }
        if ask.scores || ask.trace {
            sentences
                .push(own.iter().map(|outcome| sentence(outcome, ask, tokenizer)).collect::<Result<_>>()?);
        }
        texts.push(text);
    }
    let stages = Stages { detokenize: begun.elapsed(), total: arrived.elapsed(), ..stages };
    let meta = ask.extended.then(|| Meta {
        model: app.model.name.clone(),
        steps: StepsMeta {
            asked: ask.steps.get(),
            used: outcomes.iter().map(|outcome| outcome.steps_used).max().unwrap_or(0),
        },
        length_beam: ask.length_beam,
        timings_ms: stages
            .named()
            .map(|(name, time)| (name.into(), milliseconds(time).into()))
            .into_iter()
            .collect(),
        sentences: (ask.scores || ask.trace).then(|| AsAsked::new(sentences, ask.many)),
    });
    let answer = Answer {
        translated_text: AsAsked::new(texts, ask.many),
        alternatives: (ask.alternatives > 0).then(|| AsAsked::new(alternatives, ask.many)),
        meta,
    };
    Ok((answer, stages))
}

/// The document in the words of each sentence's `rank`-th hypothesis, or of its last.
fn rejoin(document: &Document, outcomes: &[Outcome], rank: usize, tokenizer: &Tokenizer) -> Result<String> {
    let translation = |outcome: &Outcome| {
        let last = outcome.hypotheses.len().saturating_sub(1);
        let hypothesis = outcome.hypotheses.get(rank.min(last));
        hypothesis.map_or(Ok(String::new()), |hypothesis| tokenizer.decode(&hypothesis.tokens))
    };
    let translations = outcomes.iter().map(translation).collect::<Result<Vec<_>>>()?;
    Ok(document.rejoin(&translations))
}

/// Up to `ask.alternatives` texts that differ from the best one and from each other.
fn others_than(
    best: &str,
    document: &Document,
    outcomes: &[Outcome],
    ask: &TranslateRequest,
    tokenizer: &Tokenizer,
) -> Result<Vec<String>> {
    let ranks = outcomes.iter().map(|outcome| outcome.hypotheses.len()).max().unwrap_or(0);
    let mut others: Vec<String> = Vec::with_capacity(ask.alternatives);
    for rank in 1..ranks {
        let other = rejoin(document, outcomes, rank, tokenizer)?;
        if others.len() < ask.alternatives && other != best && !others.contains(&other) {
            others.push(other);
        }
    }
    Ok(others)
}

fn sentence(outcome: &Outcome, ask: &TranslateRequest, tokenizer: &Tokenizer) -> Result<Sentence> {
    let best = outcome.hypotheses.first().ok_or_else(|| Error::EngineDead("no hypothesis".into()))?;
    let token = |(&id, &log_prob): (&u32, &f32)| Token {
        text: tokenizer.token(id).unwrap_or_default(),
        probability: log_prob.exp(),
    };
    Ok(Sentence {
        text: tokenizer.decode(&best.tokens)?,
        steps_used: outcome.steps_used,
        scores: ask.scores.then(|| Scores {
            probability: best.score.exp(),
            tokens: best.tokens.iter().zip(&best.token_log_probs).map(token).collect(),
        }),
        trace: outcome
            .trace
            .as_ref()
            .map(|trace| trace.iter().map(|canvas| canvas_text(canvas, tokenizer)).collect()),
    })
}

/// A canvas for the eye: words as text, each masked place as `_`, a blank as `·`.
fn canvas_text(canvas: &[u32], tokenizer: &Tokenizer) -> String {
    let specials = tokenizer.specials();
    let place = |&id: &u32| match id {
        id if id == specials.mask => Some(" _".to_owned()),
        id if id == specials.blank() => Some(" ·".to_owned()),
        id if specials.ids().contains(&id) => None,
        id => tokenizer.token(id),
    };
    canvas.iter().filter_map(place).collect::<String>().trim_start().to_owned()
}
