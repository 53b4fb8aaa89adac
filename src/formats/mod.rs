//! Document formats: HTML, XML, Markdown, subtitles and translation catalogs. [`Format::read`] splits a document
//! into texts, [`Document::rebuild`] puts their translations in place. Everything else is kept, byte for byte if
//! the format allows it.
//!
//! The module only handles strings; it does not depend on models, HTTP or files.

mod catalogs;
mod edits;
mod html;
mod json;
mod markdown;
mod subtitles;
#[cfg(test)]
mod tests;

pub use html::Markup;

use std::ops::Range;
use std::str::FromStr;

use crate::{Error, Result};

/// The format of a document.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    /// HTML or XML.
    Markup(Markup),
    Markdown,
    /// gettext's PO.
    Po,
    /// SubRip subtitles.
    Srt,
    /// JSON; every string value is a text.
    Json,
    /// XLIFF 1.2 and 2.
    Xliff,
}

/// The file extensions that [`Format::of_file`] accepts, with their dots.
pub const EXTENSIONS: [&str; 10] =
    [".txt", ".html", ".htm", ".xhtml", ".md", ".po", ".srt", ".json", ".xlf", ".xliff"];

impl Format {
    /// The names that [`Format::from_str`] accepts.
    pub const NAMES: [&str; 8] = ["text", "html", "xml", "markdown", "po", "srt", "json", "xliff"];

    /// The format for a file name's extension, in upper or lower case.
    pub fn of_file(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "txt" => Some(Self::Text),
            "html" | "htm" | "xhtml" => Some(Self::Markup(Markup::html())),
            "md" => Some(Self::Markdown),
            "po" => Some(Self::Po),
            "srt" => Some(Self::Srt),
            "json" => Some(Self::Json),
            "xlf" | "xliff" => Some(Self::Xliff),
            _ => None,
        }
    }

    /// The media type of this format.
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Text | Self::Srt | Self::Po => "text/plain; charset=utf-8",
            Self::Markup(markup) if markup.is_xml() => "application/xml",
            Self::Markup(_) => "text/html; charset=utf-8",
            Self::Markdown => "text/markdown; charset=utf-8",
            Self::Json => "application/json",
            Self::Xliff => "application/xliff+xml",
        }
    }

    /// Splits a document into texts.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if `source` is not in this format. Text, HTML and
    /// Markdown never fail.
    pub fn read(&self, source: &str) -> Result<Document> {
        match self {
            Self::Text => Ok(plain_text(source)),
            Self::Markup(markup) => Ok(html::read(source, markup)),
            Self::Markdown => Ok(markdown::read(source)),
            Self::Po => catalogs::read_po(source),
            Self::Xliff => catalogs::read_xliff(source),
            Self::Srt => Ok(subtitles::read(source)),
            Self::Json => json::read(source),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "html" => Ok(Self::Markup(Markup::html())),
            "xml" => Ok(Self::Markup(Markup::xml())),
            "markdown" => Ok(Self::Markdown),
            "po" => Ok(Self::Po),
            "srt" => Ok(Self::Srt),
            "json" => Ok(Self::Json),
            "xliff" => Ok(Self::Xliff),
            _ => Err(Error::InvalidRequest(format!(
                "format {name} is unknown; use one of {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// The characters that represent the tags of a text, first and last.
const FIRST_TAG: char = '\u{e000}';
const LAST_TAG: char = '\u{f8ff}';

/// A text of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    /// Places of the characters that represent tags. A translation must contain each of these characters exactly
    /// once.
    pub tags: Vec<Range<usize>>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, tags: Vec::new() }
    }
}

type Rebuild = Box<dyn Fn(&[Option<&str>]) -> String + Send + Sync>;

/// A document, split into texts and the parts between them.
pub struct Document {
    texts: Vec<Text>,
    rebuild: Rebuild,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("texts", &self.texts).finish_non_exhaustive()
    }
}

impl Document {
    fn new(texts: Vec<Text>, rebuild: impl Fn(&[Option<&str>]) -> String + Send + Sync + 'static) -> Self {
        Self { texts, rebuild: Box::new(rebuild) }
    }

    /// The texts to translate, in order.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// Builds the translated document. `translations` are those of [`texts`](Self::texts), in the same number and
    /// order.
    pub fn rebuild(&self, translations: &[String]) -> String {
        self.put(&translations.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>())
    }

    /// Like [`rebuild`](Self::rebuild), but the place of a text without a translation stays as it is in the source,
    /// byte for byte: an entry of a catalog stays untranslated.
    pub fn rebuild_partly(&self, translations: &[Option<String>]) -> String {
        self.put(&translations.iter().map(Option::as_deref).collect::<Vec<_>>())
    }

    fn put(&self, translations: &[Option<&str>]) -> String {
        debug_assert_eq!(translations.len(), self.texts.len());
        (self.rebuild)(translations)
    }
}

/// The whole source is one text.
fn plain_text(source: &str) -> Document {
    let source = source.to_owned();
    let texts = vec![source.clone().into()];
    Document::new(texts, move |translations| {
        translations.iter().map(|translation| translation.unwrap_or(&source)).collect()
    })
}

/// Whether the text contains anything to translate.
fn has_words(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}
