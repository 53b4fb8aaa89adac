//! The JSON of an answer. Plain requests get LibreTranslate's fields and nothing else; `meta` comes with
//! the extensions.

use serde::Serialize;
use serde_json::Value;

use crate::engine::{Lowered, Outcome};
use crate::http::detect::Detection;
use crate::http::request::{Effort, TranslateRequest};
use crate::http::translation::Translated;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// What decides an answer's shape.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// `q` was an array, so the answer is one.
    pub many: bool,
    /// An extension was used.
    pub extended: bool,
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
    detected_language: Option<AsAsked<Detection>>,
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
    /// Of each text.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<AsAsked<Vec<&'static str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentences: Option<AsAsked<Vec<Sentence>>>,
}

#[derive(Debug, Serialize)]
struct StepsMeta {
    requested: usize,
    /// The most that any sentence took.
    used: usize,
    /// Why some sentence got fewer than asked for: load or deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    lowered: Option<Lowered>,
}

#[derive(Debug, Serialize)]
pub struct Sentence {
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

impl Answer {
    /// # Errors
    /// What the tokenizer says to ids that it does not know, and an answer of the engine without a
    /// hypothesis.
    pub fn new(
        translated: Translated,
        request: &TranslateRequest,
        shape: &Shape,
        model: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let effort = &request.effort;
        let with_sentences = effort.scores || effort.trace;
        let Translated { texts: translations, stages, steps_used, lowered } = translated;
        let (mut texts, mut detected, mut alternatives) = (Vec::new(), Vec::new(), Vec::new());
        let (mut warnings, mut sentences) = (Vec::new(), Vec::new());
        for text in translations {
            if with_sentences {
                let own = text.outcomes.iter().map(|outcome| sentence(outcome, effort, tokenizer));
                sentences.push(own.collect::<Result<_>>()?);
            }
            texts.push(text.text);
            detected.extend(text.detected);
            alternatives.push(text.alternatives);
            warnings.push(text.warnings);
        }
        let many = shape.many;
        let warned = warnings.iter().any(|warnings| !warnings.is_empty());
        let meta = shape.extended.then(|| Meta {
            model: model.to_owned(),
            steps: StepsMeta { requested: effort.steps.get(), used: steps_used, lowered },
            length_beam: effort.length_beam,
            timings_ms: stages.milliseconds(),
            warnings: warned.then(|| AsAsked::new(warnings, many)),
            sentences: with_sentences.then(|| AsAsked::new(sentences, many)),
        });
        Ok(Self {
            translated_text: AsAsked::new(texts, many),
            detected_language: request.detect.then(|| AsAsked::new(detected, many)),
            alternatives: (effort.alternatives > 0).then(|| AsAsked::new(alternatives, many)),
            meta,
        })
    }
}

fn sentence(outcome: &Outcome, effort: &Effort, tokenizer: &Tokenizer) -> Result<Sentence> {
    let best = outcome.hypotheses.first().ok_or_else(|| Error::EngineDead("no hypothesis".into()))?;
    let token = |(&id, &log_prob): (&u32, &f32)| Token {
        text: tokenizer.token(id).unwrap_or_default(),
        probability: log_prob.exp(),
    };
    Ok(Sentence {
        text: tokenizer.decode(&best.tokens)?,
        steps_used: outcome.steps_used,
        scores: effort.scores.then(|| Scores {
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
pub fn canvas_text(canvas: &[u32], tokenizer: &Tokenizer) -> String {
    canvas.iter().filter_map(|&id| slot_text(id, tokenizer)).collect::<String>().trim_start().to_owned()
}

/// One place of a canvas; None for what frames it.
pub fn slot_text(id: u32, tokenizer: &Tokenizer) -> Option<String> {
    let specials = tokenizer.specials();
    match id {
        id if id == specials.mask => Some(" _".to_owned()),
        id if id == specials.blank() => Some(" ·".to_owned()),
        id if specials.ids().contains(&id) => None,
        id => tokenizer.token(id),
    }
}
