//! What a caller of the own dialect may ask for, read from [`Params`] and checked against the limits.
//! Past this file every number holds.

use std::time::Duration;

use super::app::App;
use super::error::ApiError;
use super::params::Params;
use crate::Error;
use crate::decode::Steps;

/// Parameters beyond LibreTranslate's; using one of them brings `meta` into the answer.
const EXTENSIONS: [&str; 6] = ["steps", "length_beam", "scores", "trace", "deadline_ms", "model"];

/// A valid request for translation.
#[derive(Debug)]
pub struct TranslateRequest {
    pub texts: Vec<String>,
    /// `q` was an array, so the answer is one.
    pub many: bool,
    pub steps: Steps,
    pub length_beam: usize,
    /// How many further translations of each text are wanted.
    pub alternatives: usize,
    pub scores: bool,
    pub trace: bool,
    /// Time for all of it, from the head of the request on.
    pub timeout: Duration,
    /// An extension was used.
    pub extended: bool,
}

impl TranslateRequest {
    /// # Errors
    /// In LibreTranslate's words where it has any: 400 what is missing, mistyped, out of range or not
    /// served; 413 more texts or characters than the limit.
    pub fn read(params: &Params, app: &App) -> Result<Self, ApiError> {
        let (texts, many) = match params.texts("q")? {
            Some((texts, many)) if texts.iter().any(|text| !text.is_empty()) => (texts, many),
            _ => return Err(missing("q")),
        };
        let source =
            params.text("source")?.filter(|code| !code.is_empty()).ok_or_else(|| missing("source"))?;
        let target =
            params.text("target")?.filter(|code| !code.is_empty()).ok_or_else(|| missing("target"))?;
        app.model.pair.check(source, target)?;
        if let Some(name) = params.text("model")?.filter(|&name| name != app.model.name) {
            return Err(ApiError::invalid(format!("model {name} is not served")));
        }
        if let Some(format) = params.text("format")?.filter(|&format| format != "text") {
            return Err(ApiError::invalid(format!("{format} format is not supported")));
        }

        let limits = &app.settings;
        at_most(texts.len(), limits.max_texts)?;
        at_most(texts.iter().map(|text| text.chars().count()).sum(), limits.max_text_chars)?;
        let most_steps = app.model.max_steps.min(limits.max_steps);
        let steps = params.number("steps", 1, most_steps.get() as u64)?;
        let steps = steps
            .and_then(|steps| Steps::new(steps as u8))
            .unwrap_or(app.model.default_steps.min(most_steps));
        let most_beam = limits.max_length_beam;
        let length_beam = params.number("length_beam", 1, most_beam as u64)?;
        let alternatives = params.number("alternatives", 0, most_beam as u64 - 1)?.unwrap_or(0) as usize;
        let timeout = params.number("deadline_ms", 1, u64::MAX)?.map(Duration::from_millis);

        Ok(Self {
            many,
            steps,
            // Alternatives are the other canvases' translations: there must be enough of them.
            length_beam: length_beam
                .map_or_else(|| app.default_length_beam(), |beam| beam as usize)
                .max(alternatives + 1),
            alternatives,
            scores: params.flag("scores")?,
            trace: params.flag("trace")?,
            timeout: timeout.unwrap_or(limits.request_timeout).min(limits.request_timeout),
            extended: EXTENSIONS.iter().any(|key| params.get(key).is_some()),
            texts,
        })
    }
}

fn missing(parameter: &str) -> ApiError {
    Error::InvalidRequest(format!("missing {parameter} parameter")).into()
}

fn at_most(size: usize, limit: usize) -> Result<(), ApiError> {
    if size > limit { Err(ApiError::TextLimit { size, limit }) } else { Ok(()) }
}
