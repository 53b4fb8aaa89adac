//! A request's parameters, whatever they came as: a JSON object, a form, the query. All become one
//! map in which the query wins, so that `?steps=1` and `?steps=4` compare the same body.
//!
//! Getters answer with what a client must change. Unknown keys are left alone: clients of
//! LibreTranslate send more than this server knows.

use axum::body::Bytes;
use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::error::ApiError;

pub struct Params(Map<String, Value>);

impl Params {
    /// Reads query and body.
    ///
    /// # Errors
    /// 400 what cannot be parsed, 413 a body above `max_body_bytes` (the router's limit, told to the
    /// client), 415 a body that is neither JSON nor a form.
    pub async fn read(request: Request, max_body_bytes: usize) -> Result<Self, ApiError> {
        let query: Query<Vec<(String, String)>> = Query::try_from_uri(request.uri())
            .map_err(|_| ApiError::invalid("the query is not valid percent-encoded UTF-8"))?;
        let media_type = media_type(request.headers())?;
        let unreadable = |status: StatusCode| match status {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyLimit { limit: max_body_bytes },
            _ => ApiError::invalid("the body could not be read"),
        };
        let mut map = if media_type.as_deref() == Some("application/x-www-form-urlencoded") {
            let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
            group(form.map_err(|rejection| unreadable(rejection.status()))?.0)
        } else {
            let body = Bytes::from_request(request, &()).await;
            let body = body.map_err(|rejection| unreadable(rejection.status()))?;
            match media_type.as_deref() {
                _ if body.is_empty() => Map::new(),
                Some("application/json") => json(&body)?,
                Some(other) if other.ends_with("+json") => json(&body)?,
                other => return Err(ApiError::MediaType(other.unwrap_or_default().to_owned())),
            }
        };
        map.extend(group(query.0));
        Ok(Self(map))
    }

    /// The value of a key; `null` counts as missing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("{key} parameter is not a string"))),
        }
    }

    /// A string or an array of strings; whether it was an array.
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

    /// A whole number within `least..=most`, as number or as text (forms and queries know only text).
    pub fn number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            None => Err(ApiError::invalid(format!("{key} parameter is not a number"))),
            Some(n) if n < least => Err(ApiError::invalid(format!("{key} parameter must be >= {least}"))),
            Some(n) if n > most => Err(ApiError::invalid(format!("{key} parameter must be <= {most}"))),
            Some(n) => Ok(Some(n)),
        }
    }

    /// `true`, `1` and the empty text of `?scores` are yes.
    pub fn flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if matches!(text.as_str(), "" | "1" | "true") => Ok(true),
            Some(Value::String(text)) if matches!(text.as_str(), "0" | "false") => Ok(false),
            Some(_) => Err(ApiError::invalid(format!("{key} parameter is neither true nor false"))),
        }
    }
}

/// The type without its parameters, in lower case; `None` where none is given.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let value =
        value.to_str().map_err(|_| ApiError::MediaType(String::from_utf8_lossy(value.as_bytes()).into()))?;
    Ok(Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

fn json(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid("the body is not a JSON object")),
        Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"))),
    }
}

/// A key that stands several times becomes an array: no text is dropped silently.
fn group(pairs: Vec<(String, String)>) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, text) in pairs {
        match map.get_mut(&key) {
            None => {
                map.insert(key, Value::String(text));
            }
            Some(Value::Array(values)) => values.push(Value::String(text)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(text)]),
        }
    }
    map
}
