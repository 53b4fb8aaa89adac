//! Bodies and answers for the OpenAPI description. The server also accepts other forms of requests.

#![allow(dead_code, reason = "handlers read and write maps; these types only describe them")]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// One text or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A map of terms, or the id of a stored glossary.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum GlossaryOrId {
    Terms(BTreeMap<String, String>),
    Id(String),
}

/// JSON, a form, multipart or the query; the query overrides the body.
#[derive(Serialize, ToSchema)]
pub struct TranslateBody {
    pub q: OneOrMany,
    /// A language tag, or `auto`.
    #[schema(example = "en")]
    pub source: String,
    #[schema(example = "de")]
    pub target: String,
    /// `text`, `html` or `markdown`.
    #[schema(example = "text", default = "text")]
    pub format: Option<String>,
    /// Further translations of each text.
    #[schema(minimum = 0, maximum = 10)]
    pub alternatives: Option<u8>,
    pub api_key: Option<String>,
    /// Decoding steps; by default those of the model.
    #[schema(minimum = 1, example = 1)]
    pub steps: Option<u8>,
    /// The lowest acceptable number of steps, under load or near the deadline; by default `steps` if given,
    /// otherwise 1.
    pub steps_min: Option<u8>,
    /// Number of target lengths that are tried.
    #[schema(minimum = 1)]
    pub length_beam: Option<u8>,
    /// Time limit in milliseconds, from the head of the request to its answer.
    #[schema(minimum = 1)]
    pub deadline_ms: Option<u64>,
    /// Whether `meta` contains the probability of each token.
    pub scores: Option<bool>,
    /// Whether `meta` contains the canvas after each step.
    pub trace: Option<bool>,
    pub glossary: Option<GlossaryOrId>,
    /// Whether a sentence may continue in the next line (wrapped text); otherwise each line is translated alone.
    #[schema(default = false)]
    pub join_lines: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TranslateAnswer {
    pub translated_text: OneOrMany,
    /// If `source` was `auto`; an array if `q` was one.
    pub detected_language: Option<Value>,
    /// If requested; an array for each text if `q` was an array.
    pub alternatives: Option<Value>,
    /// If an extension was used: model, steps, timings, warnings, scores, trace.
    pub meta: Option<Value>,
}

#[derive(Serialize, ToSchema)]
pub struct DetectBody {
    pub q: OneOrMany,
}

#[derive(Serialize, ToSchema)]
pub struct FileBody {
    /// txt, html, md, po, srt, json or xliff.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    pub file: String,
    pub source: String,
    pub target: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileAnswer {
    pub translated_file_url: String,
}

#[derive(Serialize, ToSchema)]
pub struct GlossaryBody {
    pub name: String,
    pub terms: BTreeMap<String, String>,
}

#[derive(Serialize, ToSchema)]
pub struct DeeplBody {
    pub text: Vec<String>,
    #[schema(example = "DE")]
    pub target_lang: String,
    #[schema(example = "EN")]
    pub source_lang: Option<String>,
    /// `html` or `xml`.
    pub tag_handling: Option<String>,
    pub ignore_tags: Option<OneOrMany>,
    pub glossary_id: Option<String>,
    /// `latency_optimized` uses one step, `quality_optimized` the number of steps with the best score.
    pub model_type: Option<String>,
    #[schema(minimum = 1)]
    pub steps: Option<u8>,
    /// An extension: further translations of each text.
    #[schema(minimum = 0, maximum = 10)]
    pub alternatives: Option<u8>,
}

#[derive(Serialize, ToSchema)]
pub struct DeeplGlossaryBody {
    pub name: String,
    pub source_lang: String,
    pub target_lang: String,
    pub entries: String,
    /// `tsv` or `csv`.
    pub entries_format: String,
}

#[derive(Serialize, ToSchema)]
pub struct DeeplDocumentBody {
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    pub file: String,
    pub target_lang: String,
    pub source_lang: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct DocumentKeyBody {
    pub document_key: String,
}

#[derive(Serialize, ToSchema)]
pub struct BatchBody {
    pub from: String,
    pub to: String,
    pub texts: Vec<String>,
    pub html: Option<bool>,
    /// Further translations of each text, in `alternatives` of the answer.
    #[schema(minimum = 0, maximum = 10)]
    pub alternatives: Option<u8>,
}

#[derive(Serialize, ToSchema)]
pub struct ImmeBody {
    pub source_lang: String,
    pub target_lang: String,
    pub text_list: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct KissBody {
    pub from: String,
    pub to: String,
    pub text: Option<String>,
    pub texts: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct DeeplxBody {
    pub source_lang: Option<String>,
    pub target_lang: String,
    pub text: String,
}

/// Errors of all APIs except DeepL's.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: String,
    pub code: String,
}

/// DeepL's errors.
#[derive(Serialize, ToSchema)]
pub struct MessageBody {
    pub message: String,
}

/// The statuses that any request can be answered with.
const FAILURES: [(&str, &str); 10] = [
    ("400", "The request is invalid; the text says what to change."),
    ("403", "The API key is invalid, or the server does not allow this."),
    ("404", "Not found."),
    ("408", "The body did not arrive in time."),
    ("413", "A text, a body or a list exceeds its limit."),
    ("415", "The body is neither JSON nor a form."),
    ("429", "Too many requests: see `Retry-After`."),
    ("500", "An error of the server."),
    ("503", "The server is not ready or is shutting down: see `Retry-After`."),
    ("504", "The deadline passed."),
];

fn failures(schema: &str, more: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let content = || Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))));
    FAILURES
        .iter()
        .chain(more)
        .map(|&(status, description)| {
            let response = ResponseBuilder::new().description(description);
            let response = response.content("application/json", content()).build();
            (status.to_owned(), RefOr::T(response))
        })
        .collect()
}

/// The error statuses of all APIs except DeepL's.
pub struct Failures;

impl IntoResponses for Failures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        // DeepL's clients get 403 for this.
        failures("ErrorBody", &[("401", "The server needs an API key, and the request has none.")])
    }
}

pub struct DeeplFailures;

impl IntoResponses for DeeplFailures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        failures("MessageBody", &[("456", "A quota is used up.")])
    }
}
