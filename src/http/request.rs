//! The request of all dialects, checked against the limits.
//!
//! Reading it needs the limits and the model's abilities, not the whole server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::error::ApiError;
use super::languages::Pair;
use super::params::Params;
use crate::decode::Steps;
use crate::engine::CanvasUpdate;
use crate::formats::Format;
use crate::glossary::Glossary;
use crate::settings::HttpSettings;
use crate::text::ReadOptions;

/// More than the average of most texts, so that a request that is refused because of this estimate is really too
/// large.
pub const BYTES_OF_A_TOKEN: usize = 6;

/// The most alternatives that LibreTranslate's clients request.
const MAX_ALTERNATIVES: u64 = 10;

/// The limits that requests are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Abilities<'a> {
    pub limits: &'a HttpSettings,
    pub model: &'a str,
    pub pair: &'a Pair,
    pub default_steps: Steps,
    pub max_steps: Steps,
    /// The length beam of requests without `length_beam`.
    pub default_length_beam: usize,
    /// Whether the model is an Imputer: then one canvas contains several translations.
    pub reads_slots: bool,
}

/// Texts to translate, and the options for them.
#[derive(Clone, Debug)]
pub struct TranslateRequest {
    pub texts: Arc<[String]>,
    pub format: Format,
    /// How line breaks are read.
    pub read: ReadOptions,
    /// Whether the language of the texts is to be detected.
    pub detect: bool,
    pub glossary: Option<Arc<Glossary>>,
    pub effort: Effort,
    /// Receives the canvases after each pass.
    pub watch: Option<UnboundedSender<CanvasUpdate>>,
}

/// How each text is translated, and what the answer contains.
#[derive(Clone, Debug)]
pub struct Effort {
    pub steps: Steps,
    /// The lowest acceptable number, under load or near the deadline.
    pub steps_min: Steps,
    pub length_beam: usize,
    /// Number of further translations of each text.
    pub alternatives: usize,
    pub scores: bool,
    pub trace: bool,
    /// Time limit, from the head of the request.
    pub timeout: Duration,
}

impl Effort {
    /// # Errors
    /// 400 for a parameter of a wrong type or out of range.
    pub fn read(params: &Params, abilities: &Abilities) -> Result<Self, ApiError> {
        let limits = abilities.limits;
        if let Some(name) = params.text("model")?.filter(|&name| name != abilities.model) {
            return Err(ApiError::invalid(format!("model {name} is not served")));
        }
        let max_steps = abilities.max_steps.min(limits.max_steps);
        let number = |key: &str, max: Steps| -> Result<Option<Steps>, ApiError> {
            let steps = params.number(key, 1, max.get() as u64)?;
            Ok(steps.and_then(|steps| u8::try_from(steps).ok()).and_then(Steps::new))
        };
        let given = number("steps", max_steps)?;
        let steps = given.unwrap_or(abilities.default_steps.min(max_steps));
        // A client that sets `steps` gets them, unless it also allows fewer.
        let steps_min = number("steps_min", steps)?.or(given).unwrap_or(Steps::ONE);
        let length_beam = params.number("length_beam", 1, limits.max_length_beam as u64)?;
        let alternatives = params.number("alternatives", 0, MAX_ALTERNATIVES)?.unwrap_or(0) as usize;
        // Without slots, each alternative is the translation of another canvas, so the beam must be large enough.
        let min_beam = if abilities.reads_slots { 1 } else { alternatives + 1 };
        let timeout = params.number("deadline_ms", 1, u64::MAX)?.map(Duration::from_millis);
        Ok(Self {
            steps,
            steps_min,
            length_beam: length_beam
                .map_or(abilities.default_length_beam, |beam| beam as usize)
                .max(min_beam),
            alternatives,
            scores: params.flag("scores")?,
            trace: params.flag("trace")?,
            timeout: timeout.unwrap_or(limits.request_timeout).min(limits.request_timeout),
        })
    }
}

/// Checks that the languages are served. Returns whether the source language is to be detected.
///
/// # Errors
/// 400 with LibreTranslate's message for a language or a pair that is not served.
pub fn check_languages(source: Option<&str>, target: &str, pair: &Pair) -> Result<bool, ApiError> {
    match source.filter(|source| !source.eq_ignore_ascii_case("auto")) {
        Some(source) => pair.check(source, target)?,
        None if pair.resolve(target)? == pair.target => return Ok(true),
        None => pair.check(&pair.source, target)?,
    }
    Ok(false)
}

/// # Errors
/// 413 for more texts than the limit.
pub fn check_count(texts: &[String], limits: &HttpSettings) -> Result<(), ApiError> {
    at_most(texts.len(), limits.max_texts)
}

/// Checks the characters to be translated; tags and code do not count.
///
/// # Errors
/// 413 for more characters than the limit.
pub fn check_chars<'a>(texts: impl Iterator<Item = &'a str>, limit: usize) -> Result<(), ApiError> {
    at_most(texts.map(|text| text.chars().count()).sum(), limit)
}

fn at_most(size: usize, limit: usize) -> Result<(), ApiError> {
    if size > limit { Err(ApiError::TextLimit { size, limit }) } else { Ok(()) }
}
