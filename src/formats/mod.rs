//! Documents that people have, as texts to translate and what is around them: HTML, XML, Markdown,
//! subtitles, catalogs. [`Format::read`] takes a document apart, [`Document::rebuild`] puts it together
//! around translations; everything that is not a text stays as it was, byte for byte where the format
//! allows it.
//!
//! Pure functions over strings: knows no models, no HTTP and no files.

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

/// How a document is written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    /// HTML, or XML by its own rules.
    Markup(Markup),
    Markdown,
    /// gettext.
    Po,
    /// SubRip.
    Srt,
    /// Every string that is a value.
    Json,
    /// XLIFF 1.2 and 2.
    Xliff,
}

/// Extensions of files that [`Format::of_file`] knows, with their dots.
pub const EXTENSIONS: [&str; 10] =
    [".txt", ".html", ".htm", ".xhtml", ".md", ".po", ".srt", ".json", ".xlf", ".xliff"];

impl Format {
    /// The names that [`Format::from_str`] knows.
    pub const NAMES: [&str; 8] = ["text", "html", "xml", "markdown", "po", "srt", "json", "xliff"];

    /// By the extension of a file's name, in any case.
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

    /// The media type of such a document.
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

    /// Takes a document apart.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) where `source` is not such a document.
    /// Text, HTML and Markdown are never refused.
    pub fn read(&self, source: &str) -> Result<Document> {
        match self {
            Self::Text => Ok(Document::new(vec![source.to_owned().into()], <[String]>::concat)),
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
                "format {name} is unknown; send {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// A text of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    /// Places of characters that stand for tags: a translation has each of them once, as it is.
    pub tags: Vec<Range<usize>>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, tags: Vec::new() }
    }
}

type Rebuild = Box<dyn Fn(&[String]) -> String + Send + Sync>;

/// A document taken apart.
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
    fn new(texts: Vec<Text>, rebuild: impl Fn(&[String]) -> String + Send + Sync + 'static) -> Self {
        Self { texts, rebuild: Box::new(rebuild) }
    }

    /// What is to be translated, in order.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// The document around translations of [`texts`](Self::texts), as many as these.
    pub fn rebuild(&self, translations: &[String]) -> String {
        debug_assert_eq!(translations.len(), self.texts.len());
        (self.rebuild)(translations)
    }
}

/// Whether there is anything to translate.
fn has_words(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}
