//! The parameters of a request, from a JSON object, a form or the query. They become one map, in which the query
//! wins, so that `?steps=1` and `?steps=4` can be compared with the same body.
//!
//! The errors of the getters say what to change. Unknown keys are ignored: clients of LibreTranslate send more
//! than this server uses.

use axum::body::Bytes;
use axum::extract::{Query, Request};
use serde_json::{Map, Value};

use super::body::{Body, Kind};
use super::error::ApiError;

#[derive(Debug, Default)]
pub struct Params {
    values: Map<String, Value>,
    files: Vec<Upload>,
}

/// A file in a multipart form.
#[derive(Debug)]
pub struct Upload {
    /// Name of its field.
    pub field: String,
    pub name: String,
    pub bytes: Bytes,
}

impl Params {
    /// Reads query and body.
    ///
    /// # Errors
    /// 400 if they cannot be parsed, 413 for a body above `max_body_bytes`, 415 for a body that is neither JSON
    /// nor a form.
    pub async fn read(request: Request, max_body_bytes: usize) -> Result<Self, ApiError> {
        let query: Query<Vec<(String, String)>> = Query::try_from_uri(request.uri())
            .map_err(|_| ApiError::invalid("the query is not valid percent-encoded UTF-8"))?;
        let body = Body::read(request, max_body_bytes).await?;
        let mut params = match &body.kind {
            Kind::Empty => Self::default(),
            Kind::Json => Self { values: json(body.json())?, files: Vec::new() },
            Kind::Form => Self { values: group(form(&body.bytes)?), files: Vec::new() },
            Kind::Multipart(boundary) => multipart(body.bytes.clone(), boundary).await?,
        };
        params.values.extend(group(query.0));
        Ok(params)
    }

    /// The value of a key; `null` counts as missing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The file in the field `field`.
    pub fn file(&self, field: &str) -> Option<&Upload> {
        self.files.iter().find(|file| file.field == field)
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("{key} parameter is not a string"))),
        }
    }

    /// A text that is required and not empty.
    pub fn required(&self, key: &str) -> Result<&str, ApiError> {
        self.text(key)?.filter(|text| !text.is_empty()).ok_or_else(|| ApiError::missing(key))
    }

    /// A string or an array of strings, and whether it is an array.
    pub fn texts(&self, key: &str) -> Result<Option<(Vec<String>, bool)>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some((vec![text.clone()], false))),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(|texts| Some((texts, true)))
                .ok_or_else(|| ApiError::invalid(format!("{key} parameter is not an array of strings"))),
            Some(_) => {
                Err(ApiError::invalid(format!("{key} parameter is neither a string nor an array of strings")))
            }
        }
    }

    /// An integer in `min..=max`, as a number or as text, since forms and queries contain only text.
    pub fn number(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            None => Err(ApiError::invalid(format!("{key} parameter is not a number"))),
            Some(n) if n < min => Err(ApiError::invalid(format!("{key} parameter must be >= {min}"))),
            Some(n) if n > max => Err(ApiError::invalid(format!("{key} parameter must be <= {max}"))),
            Some(n) => Ok(Some(n)),
        }
    }

    /// A boolean; `true`, `1` and the empty text of `?scores` are true.
    pub fn flag(&self, key: &str) -> Result<bool, ApiError> {
        Ok(self.optional_flag(key)?.unwrap_or(false))
    }

    /// As [`flag`](Self::flag); `None` if it is missing.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(Some(true)),
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(Some(false)),
            Some(Value::String(text)) if matches!(text.as_str(), "" | "1" | "true") => Ok(Some(true)),
            Some(Value::String(text)) if matches!(text.as_str(), "0" | "false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid(format!("{key} parameter is neither true nor false"))),
        }
    }
}

fn json(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid("the body is not a JSON object")),
        Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"))),
    }
}

fn form(body: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
    serde_urlencoded::from_bytes(body)
        .map_err(|_| ApiError::invalid("the form is not valid percent-encoded UTF-8"))
}

async fn multipart(body: Bytes, boundary: &str) -> Result<Params, ApiError> {
    let unreadable = |error: multer::Error| ApiError::invalid(format!("the multipart form: {error}"));
    let whole = futures_util::stream::once(std::future::ready(Ok::<_, std::io::Error>(body)));
    let mut form = multer::Multipart::new(whole, boundary);
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(str::to_owned) {
            Some(file_name) => {
                let bytes = field.bytes().await.map_err(unreadable)?;
                files.push(Upload { field: name, name: file_name, bytes });
            }
            None => {
                let bytes = field.bytes().await.map_err(unreadable)?;
                let text = String::from_utf8(bytes.into())
                    .map_err(|_| ApiError::invalid(format!("{name} parameter is not valid UTF-8")))?;
                texts.push((name, text));
            }
        }
    }
    Ok(Params { values: group(texts), files })
}

/// Merges the values of a key that occurs several times into an array, also `q[]` and `q[0]` of PHP clients, so
/// that no text is lost.
fn group(pairs: Vec<(String, String)>) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, text) in pairs {
        let (key, listed) = match key.split_once('[') {
            Some((name, index)) if is_index(index) => (name.to_owned(), true),
            _ => (key, false),
        };
        match map.get_mut(&key) {
            None if listed => {
                map.insert(key, Value::Array(vec![Value::String(text)]));
            }
            None => {
                map.insert(key, Value::String(text));
            }
            Some(Value::Array(values)) => values.push(Value::String(text)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(text)]),
        }
    }
    map
}

/// The text after the bracket in `q[]` and `q[12]`.
fn is_index(rest: &str) -> bool {
    rest.strip_suffix(']').is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}
