//! The request that every dialect is turned into, checked against the limits. Later code relies on its numbers.
//!
//! Needs the limits and what the model can do, not the whole server.

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

/// Above the average of most texts: a request that is refused on this estimate is certainly too large.
pub const BYTES_OF_A_TOKEN: usize = 6;

/// As many alternatives as LibreTranslate's clients ask for.
const MAX_ALTERNATIVES: u64 = 10;

/// What requests are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Abilities<'a> {
    pub limits: &'a HttpSettings,
    pub model: &'a str,
    pub pair: &'a Pair,
    pub default_steps: Steps,
    pub max_steps: Steps,
    /// Canvases of a sentence whose request does not say how many.
    pub default_length_beam: usize,
    /// The model is an Imputer: one canvas holds several translations.
    pub reads_slots: bool,
}

/// Texts to translate, with how.
#[derive(Clone, Debug)]
pub struct TranslateRequest {
    pub texts: Arc<[String]>,
    pub format: Format,
    /// How their lines are read.
    pub read: ReadOptions,
    /// The caller does not know the language of its texts.
    pub detect: bool,
    pub glossary: Option<Arc<Glossary>>,
    pub effort: Effort,
    /// Gets what is on the canvases after each pass.
    pub watch: Option<UnboundedSender<CanvasUpdate>>,
}

/// How each text is translated, and what the answer contains.
#[derive(Clone, Debug)]
pub struct Effort {
    pub steps: Steps,
    /// Under load, or where the deadline is near, fewer will do, but no fewer than these.
    pub steps_min: Steps,
    pub length_beam: usize,
    /// How many further translations of each text are wanted.
    pub alternatives: usize,
    pub scores: bool,
    pub trace: bool,
    /// Time for all of it, from the head of the request on.
    pub timeout: Duration,
}

impl Effort {
    /// # Errors
    /// 400 what is mistyped or out of range, with its name.
    pub fn read(params: &Params, abilities: &Abilities) -> Result<Self, ApiError> {
        let limits = abilities.limits;
        if let Some(name) = params.text("model")?.filter(|&name| name != abilities.model) {
            return Err(ApiError::invalid(format!("model {name} is not served")));
        }
        let max_steps = abilities.max_steps.min(limits.max_steps);
        let number = |key: &str, most: Steps| -> Result<Option<Steps>, ApiError> {
            let steps = params.number(key, 1, most.get() as u64)?;
            Ok(steps.and_then(|steps| u8::try_from(steps).ok()).and_then(Steps::new))
        };
        let named = number("steps", max_steps)?;
        let steps = named.unwrap_or(abilities.default_steps.min(max_steps));
        // A client that sets `steps` gets them, unless it also allows fewer.
        let steps_min = number("steps_min", steps)?.or(named).unwrap_or(Steps::ONE);
        let length_beam = params.number("length_beam", 1, limits.max_length_beam as u64)?;
        let alternatives = params.number("alternatives", 0, MAX_ALTERNATIVES)?.unwrap_or(0) as usize;
        // Where lengths are tried, alternatives are the other canvases' translations: there must be enough of them.
        let least_beam = if abilities.reads_slots { 1 } else { alternatives + 1 };
        let timeout = params.number("deadline_ms", 1, u64::MAX)?.map(Duration::from_millis);
        Ok(Self {
            steps,
            steps_min,
            length_beam: length_beam
                .map_or(abilities.default_length_beam, |beam| beam as usize)
                .max(least_beam),
            alternatives,
            scores: params.flag("scores")?,
            trace: params.flag("trace")?,
            timeout: timeout.unwrap_or(limits.request_timeout).min(limits.request_timeout),
        })
    }
}

/// Whether the texts' language is to be detected; otherwise the pair must be served.
///
/// # Errors
/// 400 in LibreTranslate's words for a language or a pair that is not served.
pub fn check_languages(source: Option<&str>, target: &str, pair: &Pair) -> Result<bool, ApiError> {
    match source.filter(|source| !source.eq_ignore_ascii_case("auto")) {
        Some(source) => pair.check(source, target)?,
        None if pair.resolve(target)? == pair.target => return Ok(true),
        None => pair.check(&pair.source, target)?,
    }
    Ok(false)
}

/// # Errors
/// 413 more texts than the limit.
pub fn check_count(texts: &[String], limits: &HttpSettings) -> Result<(), ApiError> {
    at_most(texts.len(), limits.max_texts)
}

/// Of what is to be translated: tags and code do not count.
///
/// # Errors
/// 413 more characters than the limit.
pub fn check_chars<'a>(texts: impl Iterator<Item = &'a str>, limit: usize) -> Result<(), ApiError> {
    at_most(texts.map(|text| text.chars().count()).sum(), limit)
}

fn at_most(size: usize, limit: usize) -> Result<(), ApiError> {
    if size > limit { Err(ApiError::TextLimit { size, limit }) } else { Ok(()) }
}
