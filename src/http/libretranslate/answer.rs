//! The JSON of an answer. Plain requests get only LibreTranslate's fields; requests with extensions also get
//! `meta`.

use serde::Serialize;
use serde_json::Value;

use crate::engine::{Lowered, Outcome};
use crate::http::detect::Detection;
use crate::http::request::{Effort, TranslateRequest};
use crate::http::translation::Translated;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// The shape of an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerShape {
    /// Whether `q` was an array; then the answer has arrays, too.
    pub many: bool,
    /// Whether the request used an extension.
    pub extended: bool,
}

/// One value if `q` was a string, an array if it was an array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ScalarOrArray<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> ScalarOrArray<T> {
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
    translated_text: ScalarOrArray<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detected_language: Option<ScalarOrArray<Detection>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<ScalarOrArray<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
}

#[derive(Debug, Serialize)]
struct Meta {
    model: String,
    steps: StepsMeta,
    length_beam: usize,
    timings_ms: serde_json::Map<String, Value>,
    /// The warnings of each text.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<ScalarOrArray<Vec<&'static str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentences: Option<ScalarOrArray<Vec<Sentence>>>,
}

#[derive(Debug, Serialize)]
struct StepsMeta {
    requested: usize,
    /// The highest number of any sentence.
    used: usize,
    /// Why a sentence got fewer steps than requested.
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
    /// [`Error::Tokenizer`] for unknown token ids, [`Error::EngineDead`] for an outcome without a hypothesis.
    pub fn new(
        translated: Translated,
        request: &TranslateRequest,
        shape: &AnswerShape,
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
            warnings: warned.then(|| ScalarOrArray::new(warnings, many)),
            sentences: with_sentences.then(|| ScalarOrArray::new(sentences, many)),
        });
        Ok(Self {
            translated_text: ScalarOrArray::new(texts, many),
            detected_language: request.detect.then(|| ScalarOrArray::new(detected, many)),
            alternatives: (effort.alternatives > 0).then(|| ScalarOrArray::new(alternatives, many)),
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

/// A canvas as readable text, with `_` for a mask and `·` for a blank.
pub fn canvas_text(canvas: &[u32], tokenizer: &Tokenizer) -> String {
    canvas.iter().filter_map(|&id| slot_text(id, tokenizer)).collect::<String>().trim_start().to_owned()
}

/// One place of a canvas; `None` for bos and eos.
pub fn slot_text(id: u32, tokenizer: &Tokenizer) -> Option<String> {
    let specials = tokenizer.specials();
    match id {
        id if id == specials.mask => Some(" _".to_owned()),
        id if id == specials.blank() => Some(" ·".to_owned()),
        id if specials.ids().contains(&id) => None,
        id => tokenizer.token(id),
    }
}
