//! The content of an XLIFF source. In its text, each tag of an inline element is one character of the private use area,
//! and so is a whole element that contains native code; a translation must contain each exactly once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use quick_xml::events::{BytesStart, Event};

use super::bad_xml;
use crate::Result;
use crate::formats::edits::Escape;
use crate::formats::{FIRST_TAG, LAST_TAG, Text, has_words};

/// The content of a `<source>`, as far as it has been read.
#[derive(Debug)]
pub struct Content {
    place: Range<usize>,
    pieces: Vec<Piece>,
    /// Number of open inline elements.
    depth: usize,
    /// Of an open element with native code: the number of elements around it, and its place.
    code: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Piece {
    place: Range<usize>,
    /// `None` for a tag or an element with native code.
    text: Option<String>,
}

impl Content {
    /// The content that begins at this place of the file.
    pub fn starting_at(start: usize) -> Self {
        Self { place: start..start, pieces: Vec::new(), depth: 0, code: None }
    }

    /// Takes the next event. Returns whether it is the end of the source.
    ///
    /// # Errors
    /// Those of [`characters`].
    pub fn take(&mut self, event: &Event<'_>, place: Range<usize>) -> Result<bool> {
        let in_code = self.code.is_some();
        if let Some(text) = characters(event)? {
            if !in_code {
                self.pieces.push(Piece { place, text: Some(text.into_owned()) });
            }
            return Ok(false);
        }
        match event {
            Event::Start(tag) => {
                if !in_code && is_code(tag) {
                    self.code = Some((self.depth, place.start));
                } else if !in_code {
                    self.tag(place);
                }
                self.depth += 1;
            }
            Event::End(_) if self.depth == 0 => {
                self.place.end = place.start;
                return Ok(true);
            }
            Event::End(_) => {
                self.depth -= 1;
                match self.code {
                    None => self.tag(place),
                    Some((depth, start)) if depth == self.depth => {
                        self.code = None;
                        self.tag(start..place.end);
                    }
                    Some(_) => {}
                }
            }
            Event::Empty(_) if !in_code => self.tag(place),
            _ => {}
        }
        Ok(false)
    }

    fn tag(&mut self, place: Range<usize>) {
        self.pieces.push(Piece { place, text: None });
    }

    /// The text from the first to the last visible piece, and how its translation is written, with the elements around
    /// the text. `None` if there is nothing to translate, or more tags than characters for them.
    pub fn text(&self, source: &str) -> Option<(Text, Escape)> {
        let is_visible = |piece: &Piece| piece.text.as_deref().is_some_and(|text| !text.trim().is_empty());
        let first = self.pieces.iter().position(is_visible)?;
        let last = self.pieces.iter().rposition(is_visible)?;
        let pieces = &self.pieces[first..=last];
        let texts = || pieces.iter().filter_map(|piece| piece.text.as_deref());
        if !texts().any(has_words) {
            return None;
        }
        // The text itself may have characters of private use, such as icons.
        let is_tag = |character: &char| (FIRST_TAG..=LAST_TAG).contains(character);
        let taken: HashSet<char> = texts().flat_map(str::chars).filter(is_tag).collect();
        let mut free = (FIRST_TAG..=LAST_TAG).filter(|character| !taken.contains(character));
        let (mut text, mut spans, mut tags) = (String::new(), Vec::new(), Vec::new());
        for piece in pieces {
            if let Some(content) = &piece.text {
                text.push_str(content);
                continue;
            }
            let character = free.next()?;
            spans.push(text.len()..text.len() + character.len_utf8());
            text.push(character);
            tags.push((character, source[piece.place.clone()].to_owned()));
        }
        let before = &source[self.place.start..self.pieces[first].place.start];
        let after = &source[self.pieces[last].place.end..self.place.end];
        let escape =
            Escape::Element { before: format!("<target>{before}"), after: format!("{after}</target>"), tags };
        Some((Text { text, tags: spans }, escape))
    }
}

/// Whether the content of the element is not text: native code, or marked as not to be translated.
fn is_code(tag: &BytesStart<'_>) -> bool {
    let is_protected = || {
        let attribute = tag.try_get_attribute("mtype").ok().flatten();
        attribute.is_some_and(|attribute| attribute.value == "protected")
    };
    match tag.local_name().as_ref() {
        "x" | "bx" | "ex" | "bpt" | "ept" | "it" | "ph" | "sc" | "ec" | "sm" | "em" | "cp" => true,
        "mrk" => is_translatable(tag) == Some(false) || is_protected(),
        _ => false,
    }
}

/// Whether the content of the element is to be translated, if its attribute `translate` says so.
pub fn is_translatable(tag: &BytesStart<'_>) -> Option<bool> {
    let attribute = tag.try_get_attribute("translate").ok().flatten()?;
    match &*attribute.value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The characters that an event represents; `None` if it is not text.
///
/// # Errors
/// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for an unknown entity.
pub fn characters<'a>(event: &'a Event<'_>) -> Result<Option<Cow<'a, str>>> {
    Ok(match event {
        Event::Text(text) => Some(Cow::Borrowed(&**text)),
        Event::CData(text) => Some(Cow::Borrowed(&**text)),
        Event::GeneralRef(reference) => {
            let escaped = format!("&{};", &**reference);
            let text = quick_xml::escape::unescape(&escaped).map_err(|error| bad_xml(&error))?;
            Some(Cow::Owned(text.into_owned()))
        }
        _ => None,
    })
}
