//! Splits the content of a block into texts with inline tags, and writes their translations.

use std::ops::Range;

use crate::formats::edits::{Escape, escape};
use crate::formats::{FIRST_TAG, LAST_TAG, Text, has_words};

/// The tags of a text are represented in order. A text that itself contains such a character has no tags.
const MAX_TAGS: usize = LAST_TAG as usize - FIRST_TAG as usize + 1;

/// A part of the content between two blocks.
#[derive(Debug)]
pub enum Element {
    /// Its place, and its content without character references.
    Text(Range<usize>, String),
    /// A tag, a comment or a kept element.
    Kept(Range<usize>, Vec<Part>),
}

impl Element {
    fn place(&self) -> &Range<usize> {
        match self {
            Self::Text(place, _) | Self::Kept(place, _) => place,
        }
    }

    fn is_visible_text(&self) -> bool {
        matches!(self, Self::Text(_, text) if !text.trim().is_empty())
    }
}

/// A part of the translated markup. A text without a translation is copied from its place in the source.
#[derive(Debug)]
pub enum Part {
    Source(Range<usize>),
    /// The translation of this text, with quotes.
    Attribute {
        text: usize,
        place: Range<usize>,
    },
    /// The translation of this text, with each tag in the place of its character.
    TaggedText {
        text: usize,
        place: Range<usize>,
        tags: Vec<Tag>,
    },
}

/// A tag within a text, or what else is kept there.
#[derive(Debug)]
pub struct Tag {
    place: Range<usize>,
    parts: Vec<Part>,
}

impl Tag {
    fn write(&self, source: &str, translations: &[Option<&str>], out: &mut String) {
        self.parts.iter().for_each(|part| part.write(source, translations, out));
    }
}

impl Part {
    pub fn write(&self, source: &str, translations: &[Option<&str>], out: &mut String) {
        match self {
            Self::Source(place) => out.push_str(&source[place.clone()]),
            Self::Attribute { text, place } => match translations[*text] {
                Some(translation) => Escape::Attribute.write(translation, out),
                None => out.push_str(&source[place.clone()]),
            },
            Self::TaggedText { text, place, tags } => {
                let Some(translation) = translations[*text] else {
                    // Attributes of the tags may be translated nevertheless.
                    let mut done = place.start;
                    for tag in tags {
                        out.push_str(&source[done..tag.place.start]);
                        tag.write(source, translations, out);
                        done = tag.place.end;
                    }
                    out.push_str(&source[done..place.end]);
                    return;
                };
                for character in translation.chars() {
                    let index = (character as usize).checked_sub(FIRST_TAG as usize);
                    match index.and_then(|index| tags.get(index)) {
                        Some(tag) => tag.write(source, translations, out),
                        None => escape(character, false, out),
                    }
                }
            }
        }
    }
}

/// A text with its tags.
#[derive(Debug)]
pub struct TaggedText {
    pub place: Range<usize>,
    pub text: Text,
    pub tags: Vec<Tag>,
}

#[derive(Debug)]
pub enum Piece {
    Kept(Range<usize>, Vec<Part>),
    TaggedText(TaggedText),
}

/// Splits elements into texts and kept parts. A text reaches from the first to the last visible text. Tags
/// around it are kept; white space around it is in no piece and is copied from the source.
pub fn pieces(elements: Vec<Element>, source: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut run = Vec::new();
    let mut tags = 0;
    for element in elements {
        match &element {
            Element::Text(_, text) if text.contains(|c| (FIRST_TAG..=LAST_TAG).contains(&c)) => {
                end_run(std::mem::take(&mut run), source, &mut pieces);
                end_run(vec![element], source, &mut pieces);
                tags = 0;
            }
            _ => {
                if tags == MAX_TAGS {
                    end_run(std::mem::take(&mut run), source, &mut pieces);
                    tags = 0;
                }
                tags += usize::from(matches!(element, Element::Kept(..)));
                run.push(element);
            }
        }
    }
    end_run(run, source, &mut pieces);
    pieces
}

fn end_run(mut run: Vec<Element>, source: &str, pieces: &mut Vec<Piece>) {
    let words = run.iter().any(|element| matches!(element, Element::Text(_, text) if has_words(text)));
    let first = run.iter().position(Element::is_visible_text).filter(|_| words);
    let last = run.iter().rposition(Element::is_visible_text);
    let (Some(first), Some(last)) = (first, last) else {
        pieces.extend(run.into_iter().filter_map(kept));
        return;
    };
    let after = run.split_off(last + 1);
    let inner = run.split_off(first);
    pieces.extend(run.into_iter().filter_map(kept));
    pieces.extend(tagged_text(inner, source).map(Piece::TaggedText));
    pieces.extend(after.into_iter().filter_map(kept));
}

fn kept(element: Element) -> Option<Piece> {
    match element {
        Element::Text(..) => None,
        Element::Kept(place, parts) => Some(Piece::Kept(place, parts)),
    }
}

/// The text of elements that begin and end with a visible text.
fn tagged_text(elements: Vec<Element>, source: &str) -> Option<TaggedText> {
    let (start, end) = (elements.first()?.place().clone(), elements.last()?.place().clone());
    let (raw_start, raw_end) = (source.get(start.clone())?, source.get(end.clone())?);
    let place = start.start + (raw_start.len() - raw_start.trim_ascii_start().len())
        ..end.start + raw_end.trim_ascii_end().len();
    let (mut text, mut spans, mut tags) = (String::new(), Vec::new(), Vec::new());
    for element in elements {
        match element {
            Element::Text(_, content) => collapse_white_space(&content, &mut text),
            Element::Kept(place, parts) => {
                let character = char::from_u32(FIRST_TAG as u32 + tags.len() as u32)?;
                spans.push(text.len()..text.len() + character.len_utf8());
                text.push(character);
                tags.push(Tag { place, parts });
            }
        }
    }
    text.truncate(text.trim_ascii_end().len());
    Some(TaggedText { place, text: Text { text, tags: spans }, tags })
}

/// Appends the content with each run of white space as one space, and none at the beginning.
fn collapse_white_space(content: &str, text: &mut String) {
    for character in content.chars() {
        if !character.is_ascii_whitespace() {
            text.push(character);
        } else if !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
    }
}
