//! HTML as browsers parse it, and XML: text between tags and in some attributes is translated.
//!
//! The tokenizer follows the WHATWG standard, so that broken markup is read as in browsers, and it returns the
//! place of every token. Only texts change: tags, comments, scripts and white space are kept byte for byte. The
//! content of a block is one text, in which each tag is one character of the private use area; a translation must
//! contain each exactly once.

mod elements;
mod tagged_text;

use std::collections::HashMap;
use std::ops::Range;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use super::{Document, Text, has_words};
use tagged_text::{Element, Part, TaggedText};

/// Attributes that contain text for readers.
const TRANSLATED_ATTRIBUTES: [&[u8]; 3] = [b"title", b"alt", b"placeholder"];

/// The rules of a markup language.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Markup {
    xml: bool,
    /// Elements whose content is not translated, in lower case.
    ignored: Vec<String>,
}

impl Markup {
    pub fn html() -> Self {
        Self::default()
    }

    /// Rules for XML: element names have no meaning, and attributes are not translated.
    pub fn xml() -> Self {
        Self { xml: true, ..Self::default() }
    }

    /// Sets the elements whose content is not translated.
    pub fn ignoring(self, names: impl IntoIterator<Item = String>) -> Self {
        let ignored = names.into_iter().map(|name| name.trim().to_lowercase()).collect();
        Self { ignored, ..self }
    }

    pub fn is_xml(&self) -> bool {
        self.xml
    }

    /// Whether the content of the element that `tag` opens is not translated.
    fn keeps(&self, tag: &StartTag<usize>) -> bool {
        if self.ignored.iter().any(|name| name.as_bytes() == tag.name.as_slice()) {
            return true;
        }
        let value = |name: &[u8]| tag.attributes.get(name).map(|value| value.value.as_slice());
        let disabled = value(b"translate").is_some_and(|value| value.eq_ignore_ascii_case(b"no"));
        if self.xml {
            return disabled;
        }
        let mut classes = value(b"class").unwrap_or_default().split(u8::is_ascii_whitespace);
        disabled
            || classes.any(|class| class.eq_ignore_ascii_case(b"notranslate"))
            || elements::is_kept(&tag.name)
    }

    fn opens(&self, tag: &StartTag<usize>) -> bool {
        if self.xml { !tag.self_closing } else { !elements::is_void(&tag.name) }
    }

    /// Whether a text ends at this tag.
    fn cuts(&self, name: &[u8]) -> bool {
        !self.xml && elements::is_block(name)
    }
}

/// Splits markup into texts. It never fails.
pub fn read(source: &str, markup: &Markup) -> Document {
    let mut reader = MarkupReader {
        source,
        markup,
        texts: Vec::new(),
        parts: Vec::new(),
        done: 0,
        elements: Vec::new(),
        kept: Vec::new(),
        kept_by_name: HashMap::new(),
        kept_from: 0,
    };
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(!markup.xml);
    for token in Tokenizer::new_with_emitter(source, emitter) {
        let Ok(token) = token;
        reader.take(token);
    }
    reader.end()
}

struct MarkupReader<'a> {
    source: &'a str,
    markup: &'a Markup,
    texts: Vec<Text>,
    parts: Vec<Part>,
    /// The source up to this byte is in `parts`.
    done: usize,
    /// The elements since the last block began.
    elements: Vec<Element>,
    /// The open elements, from the outermost kept one inwards; empty outside of kept elements.
    kept: Vec<Vec<u8>>,
    /// Number of these elements by name, so that an end tag without a start needs no search.
    kept_by_name: HashMap<Vec<u8>, usize>,
    kept_from: usize,
}

impl MarkupReader<'_> {
    fn take(&mut self, token: Token<usize>) {
        match token {
            // An error about the next token, which is handled then.
            Token::Error(_) => {}
            Token::StartTag(tag) => self.start(&tag),
            Token::EndTag(tag) => self.end_tag(&tag.name, tag.span.start..tag.span.end),
            _ if !self.kept.is_empty() => {}
            Token::String(string) => {
                let content = String::from_utf8_lossy(&string.value).into_owned();
                self.elements.push(Element::Text(string.span.start..string.span.end, content));
            }
            Token::Comment(comment) => self.keep(comment.span.start..comment.span.end),
            Token::Doctype(_) => self.end_text(),
        }
    }

    /// Adds a part of the source that is not text, within a text.
    fn keep(&mut self, place: Range<usize>) {
        self.elements.push(Element::Kept(place.clone(), vec![Part::Source(place)]));
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        let (place, opens) = (tag.span.start..tag.span.end, self.markup.opens(tag));
        if !self.kept.is_empty() {
            if opens {
                self.open_kept(tag);
            }
            return;
        }
        if self.markup.cuts(&tag.name) {
            self.end_text();
        }
        if self.markup.keeps(tag) && opens {
            self.open_kept(tag);
            self.kept_from = place.start;
        } else if self.markup.keeps(tag) || self.markup.xml {
            self.keep(place);
        } else {
            let parts = self.parts_of(tag);
            self.elements.push(Element::Kept(place, parts));
            if self.markup.cuts(&tag.name) {
                self.end_text();
            }
        }
    }

    fn open_kept(&mut self, tag: &StartTag<usize>) {
        *self.kept_by_name.entry(tag.name.to_vec()).or_insert(0) += 1;
        self.kept.push(tag.name.to_vec());
    }

    /// Closes the kept elements from this one inwards.
    fn close_kept(&mut self, from: usize) {
        for name in self.kept.drain(from..) {
            if let Some(count) = self.kept_by_name.get_mut(&name) {
                *count -= 1;
            }
        }
    }

    fn end_tag(&mut self, name: &[u8], place: Range<usize>) {
        let is_open = self.kept_by_name.get(name).is_some_and(|&count| count > 0);
        let opened = if is_open { self.kept.iter().rposition(|open| open == name) } else { None };
        match opened {
            Some(0) => {
                self.close_kept(0);
                self.keep(self.kept_from..place.end);
            }
            Some(index) => self.close_kept(index),
            // No start tag inside matches, such as for a `<p>` without `</p>`: this tag ends the text.
            None if self.kept.first().is_some_and(|open| elements::has_optional_end(open)) => {
                self.close_kept(0);
                self.keep(self.kept_from..place.start);
                self.keep(place);
            }
            None if !self.kept.is_empty() => return,
            None => self.keep(place),
        }
        if self.kept.is_empty() && self.markup.cuts(name) {
            self.end_text();
        }
    }

    /// Adds a start tag and the texts of its attributes.
    fn parts_of(&mut self, tag: &StartTag<usize>) -> Vec<Part> {
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (name, value) in &tag.attributes {
            let text = String::from_utf8_lossy(&value.value);
            if !TRANSLATED_ATTRIBUTES.contains(&name.as_slice()) || !has_words(&text) {
                continue;
            }
            let start = value.span.start;
            let attribute = self.source.get(start..value.span.end.min(tag.span.end));
            if let Some(place) = attribute.and_then(place_of_value) {
                found.push((start + place.start..start + place.end, text.into_owned()));
            }
        }
        found.sort_by_key(|(place, _)| place.start);
        let mut parts = Vec::with_capacity(2 * found.len() + 1);
        let mut done = tag.span.start;
        for (place, text) in found {
            parts.push(Part::Source(done..place.start));
            done = place.end;
            parts.push(Part::Attribute { text: self.texts.len(), place });
            self.texts.push(text.into());
        }
        parts.push(Part::Source(done..tag.span.end));
        parts
    }

    fn end_text(&mut self) {
        let elements = std::mem::take(&mut self.elements);
        for piece in tagged_text::pieces(elements, self.source) {
            let (place, part) = match piece {
                tagged_text::Piece::Kept(place, parts) => {
                    self.copy_to(place.start);
                    self.done = place.end;
                    self.parts.extend(parts);
                    continue;
                }
                tagged_text::Piece::TaggedText(TaggedText { place, text, tags }) => {
                    let part = Part::TaggedText { text: self.texts.len(), place: place.clone(), tags };
                    self.texts.push(text);
                    (place, part)
                }
            };
            self.copy_to(place.start);
            self.parts.push(part);
            self.done = place.end;
        }
    }

    fn copy_to(&mut self, place: usize) {
        if self.done < place {
            self.parts.push(Part::Source(self.done..place));
            self.done = place;
        }
    }

    fn end(mut self) -> Document {
        self.end_text();
        self.copy_to(self.source.len());
        let Self { source, texts, parts, .. } = self;
        let source = source.to_owned();
        Document::new(texts, move |translations| {
            let mut out = String::with_capacity(source.len() * 5 / 4);
            parts.iter().for_each(|part| part.write(&source, translations, &mut out));
            out
        })
    }
}

/// The value with its quotes, in `name = "value"`.
fn place_of_value(attribute: &str) -> Option<Range<usize>> {
    let after_equals = attribute.find('=')? + 1;
    let value = attribute[after_equals..].trim_ascii_start();
    let start = attribute.len() - value.len();
    let quote = value.chars().next()?;
    let length = if matches!(quote, '"' | '\'') {
        value[1..].find(quote)? + 2
    } else {
        value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())
    };
    (length > 0).then_some(start..start + length)
}
