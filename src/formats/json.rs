//! JSON: every string value is translated; keys, numbers and white space are kept.

use serde::de::IgnoredAny;

use super::edits::{Edits, Escape};
use super::{Document, has_words};
use crate::{Error, Result};

/// # Errors
/// [`Error::InvalidRequest`] if `source` is not JSON.
pub fn read(source: &str) -> Result<Document> {
    let json = source.trim_start_matches('\u{feff}');
    let bad =
        |error: serde_json::Error| Error::InvalidRequest(format!("the file is not valid JSON: {error}"));
    let _: IgnoredAny = serde_json::from_str(json).map_err(bad)?;
    // The source is valid JSON, so a quote outside of a string begins one.
    let mut edits = Edits::default();
    let mut start = source.len() - json.len();
    while let Some(quote) = source[start..].find('"') {
        let begin = start + quote;
        let end = begin + length_of_string(&source[begin..]);
        let is_key = source[end..].trim_ascii_start().starts_with(':');
        let text: String = serde_json::from_str(&source[begin..end]).map_err(bad)?;
        if !is_key && has_words(&text) {
            edits.push(begin..end, text, Escape::Json);
        }
        start = end;
    }
    Ok(edits.into_document(source))
}

/// The length of the string at the beginning, with both quotes.
fn length_of_string(json: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    json.len()
}
