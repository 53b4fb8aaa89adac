//! Replaces parts of a source. Most formats are reassembled in this way.

use std::ops::Range;

use super::{Document, Text};

/// The texts of a source, each with its place and its notation.
#[derive(Debug, Default)]
pub struct Edits {
    places: Vec<(Range<usize>, Escape)>,
    texts: Vec<Text>,
}

/// The notation of a text in its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Escape {
    None,
    /// The value of an attribute, with its quotes.
    Attribute,
    /// Between tags; `before` and `after` are added around the text. `tags` has the characters that represent inline
    /// elements, ascending, each with the element.
    Element {
        before: String,
        after: String,
        tags: Vec<(char, String)>,
    },
    /// A string in C's notation, as in PO, with its quotes.
    Quoted,
    /// A JSON string, with its quotes.
    Json,
}

impl Edits {
    /// Adds a text. Places must be in the order of the source and must not overlap.
    pub fn push(&mut self, place: Range<usize>, text: impl Into<Text>, escape: Escape) {
        debug_assert!(self.places.last().is_none_or(|(last, _)| last.end <= place.start));
        self.places.push((place, escape));
        self.texts.push(text.into());
    }

    pub fn into_document(self, source: &str) -> Document {
        let Self { places, texts } = self;
        let source = source.to_owned();
        Document::new(texts, move |translations| {
            let mut out = String::with_capacity(source.len() * 5 / 4);
            let mut done = 0;
            for ((place, escape), text) in places.iter().zip(translations) {
                // A place without a translation is copied with the source around it.
                let Some(text) = text else { continue };
                out.push_str(&source[done..place.start]);
                escape.write(text, &mut out);
                done = place.end;
            }
            out.push_str(&source[done..]);
            out
        })
    }
}

impl Escape {
    pub fn write(&self, text: &str, out: &mut String) {
        match self {
            Self::None => out.push_str(text),
            Self::Attribute => {
                out.push('"');
                text.chars().for_each(|character| escape(character, true, out));
                out.push('"');
            }
            Self::Json => out.push_str(&serde_json::Value::from(text).to_string()),
            Self::Quoted => {
                out.push('"');
                for character in text.chars() {
                    match character {
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        '"' => out.push_str("\\\""),
                        '\\' => out.push_str("\\\\"),
                        other => out.push(other),
                    }
                }
                out.push('"');
            }
            Self::Element { before, after, tags } => {
                out.push_str(before);
                for character in text.chars() {
                    match tags.binary_search_by_key(&character, |(tag, _)| *tag) {
                        Ok(index) => out.push_str(&tags[index].1),
                        Err(_) => escape(character, false, out),
                    }
                }
                out.push_str(after);
            }
        }
    }
}

/// Escapes the characters that HTML's serialization escapes. It writes `&#160;`, since `&nbsp;` is not XML.
pub fn escape(character: char, in_attribute: bool, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' if in_attribute => out.push_str("&quot;"),
        '\u{a0}' => out.push_str("&#160;"),
        other => out.push(other),
    }
}
