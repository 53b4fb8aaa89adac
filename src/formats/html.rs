//! HTML as browsers read it, and XML: text between tags and in some attributes is to be translated.
//!
//! The tokenizer is the WHATWG's, so that broken markup is read as browsers read it, and every token has
//! its place in the source: only those places change, so that tags, comments, scripts and white space
//! come back byte for byte.

use std::ops::Range;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use super::edits::{Edits, Escape};
use super::{Document, has_words};

/// Attributes that people read.
const READ_ATTRIBUTES: [&[u8]; 3] = [b"title", b"alt", b"placeholder"];

/// Elements whose content is not prose.
const KEPT_ELEMENTS: [&[u8]; 15] = [
    b"code", b"kbd", b"samp", b"var", b"tt", b"pre", b"script", b"style", b"textarea", b"svg", b"math",
    b"template", b"noscript", b"iframe", b"object",
];

/// Elements without content or end tag.
const VOID_ELEMENTS: [&[u8]; 14] = [
    b"area", b"base", b"br", b"col", b"embed", b"hr", b"img", b"input", b"link", b"meta", b"param",
    b"source", b"track", b"wbr",
];

/// Which rules markup follows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Markup {
    xml: bool,
    /// Elements whose content stays as it is, in lower case.
    ignored: Vec<String>,
}

impl Markup {
    pub fn html() -> Self {
        Self::default()
    }

    /// Elements have no meaning of their own and attributes stay as they are.
    pub fn xml() -> Self {
        Self { xml: true, ..Self::default() }
    }

    /// The content of these elements stays as it is.
    pub fn ignoring(self, names: impl IntoIterator<Item = String>) -> Self {
        let ignored = names.into_iter().map(|name| name.trim().to_lowercase()).collect();
        Self { ignored, ..self }
    }

    pub fn is_xml(&self) -> bool {
        self.xml
    }

    /// The content of the element that `tag` opens stays as it is.
    fn keeps(&self, tag: &StartTag<usize>) -> bool {
        if self.ignored.iter().any(|name| name.as_bytes() == &**tag.name) {
            return true;
        }
        let says_no = tag.attributes.get(b"translate".as_slice()).is_some_and(|value| **value.value == *b"no");
        if self.xml {
            return says_no;
        }
        let classes = tag.attributes.get(b"class".as_slice()).map(|value| value.value.as_slice());
        let notranslate = classes
            .unwrap_or_default()
            .split(u8::is_ascii_whitespace)
            .any(|class| class.eq_ignore_ascii_case(b"notranslate"));
        says_no || notranslate || KEPT_ELEMENTS.contains(&tag.name.as_slice())
    }

    fn opens(&self, tag: &StartTag<usize>) -> bool {
        if self.xml { !tag.self_closing } else { !VOID_ELEMENTS.contains(&tag.name.as_slice()) }
    }
}

/// Takes markup apart; nothing is refused.
pub fn read(source: &str, markup: &Markup) -> Document {
    let mut reader = Reader { source, markup, edits: Edits::default(), text: None, kept: Vec::new() };
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(!markup.xml);
    for token in Tokenizer::new_with_emitter(source, emitter) {
        let Ok(token) = token;
        reader.take(token);
    }
    reader.end_text();
    reader.edits.into_document(source)
}

struct Reader<'a> {
    source: &'a str,
    markup: &'a Markup,
    edits: Edits,
    /// The text since the last tag: its place and its content without character references.
    text: Option<(Range<usize>, String)>,
    /// Open elements from the outermost kept one on; empty outside of kept elements.
    kept: Vec<Vec<u8>>,
}

impl Reader<'_> {
    fn take(&mut self, token: Token<usize>) {
        match token {
            // A message about the token that follows, which is the text or tag to look at.
            Token::Error(_) => {}
            Token::String(string) => {
                let content = String::from_utf8_lossy(&string.value);
                let place = string.span.start..string.span.end;
                match &mut self.text {
                    Some((begun, text)) => {
                        begun.end = place.end;
                        text.push_str(&content);
                    }
                    None => self.text = Some((place, content.into_owned())),
                }
            }
            Token::StartTag(tag) => {
                self.end_text();
                self.start(&tag);
            }
            Token::EndTag(tag) => {
                self.end_text();
                self.end(&tag.name);
            }
            Token::Comment(_) | Token::Doctype(_) => self.end_text(),
        }
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        if self.kept.is_empty() {
            if !self.markup.xml && !self.markup.keeps(tag) {
                self.attributes(tag);
            }
            if self.markup.keeps(tag) && self.markup.opens(tag) {
                self.kept.push(tag.name.to_vec());
            }
        } else if self.markup.opens(tag) {
            self.kept.push(tag.name.to_vec());
        }
    }

    /// An end tag that nothing inside a kept element opened ends that element, as for a `<p>` without
    /// `</p>`.
    fn end(&mut self, name: &[u8]) {
        match self.kept.iter().rposition(|open| open == name) {
            Some(index) => self.kept.truncate(index),
            None if self.kept.first().is_some_and(|open| has_optional_end(open)) => self.kept.clear(),
            None => {}
        }
    }

    fn attributes(&mut self, tag: &StartTag<usize>) {
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (name, value) in &tag.attributes {
            if !READ_ATTRIBUTES.contains(&name.as_slice()) {
                continue;
            }
            let text = String::from_utf8_lossy(&value.value).into_owned();
            let end = value.span.end.min(tag.span.end);
            let Some(place) = self.source.get(value.span.start..end).and_then(place_of_value) else { continue };
            if has_words(&text) {
                found.push((value.span.start + place.start..value.span.start + place.end, text));
            }
        }
        found.sort_by_key(|(place, _)| place.start);
        for (place, text) in found {
            self.edits.push(place, text, Escape::Attribute);
        }
    }

    fn end_text(&mut self) {
        let Some((place, text)) = self.text.take() else { return };
        if !self.kept.is_empty() || !has_words(&text) {
            return;
        }
        let Some(raw) = self.source.get(place.clone()) else { return };
        let start = place.start + (raw.len() - raw.trim_ascii_start().len());
        let end = start + raw.trim_ascii().len();
        // A text that ends in the middle of a tag (`</p` without `>`) is kept.
        self.edits.push(start..end, one_line(&text), Escape::Markup);
    }
}

/// Line breaks and indentation mean no more than a space in markup.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// HTML closes these by what follows.
fn has_optional_end(name: &[u8]) -> bool {
    matches!(
        name,
        b"p" | b"li" | b"dt" | b"dd" | b"tr" | b"td" | b"th" | b"option" | b"optgroup" | b"thead" | b"tbody"
            | b"tfoot" | b"colgroup" | b"rt" | b"rp"
    )
}

/// The value with its quotes in `name = "value"`.
fn place_of_value(attribute: &str) -> Option<Range<usize>> {
    let after_equals = attribute.find('=')? + 1;
    let start = after_equals + (attribute[after_equals..].len() - attribute[after_equals..].trim_ascii_start().len());
    let value = &attribute[start..];
    let quote = value.chars().next()?;
    let length = if matches!(quote, '"' | '\'') {
        value[1..].find(quote)? + 2
    } else {
        value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())
    };
    (length > 0).then_some(start..start + length)
}
