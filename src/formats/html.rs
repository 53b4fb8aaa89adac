//! HTML as browsers read it, and XML: text between tags and in some attributes is to be translated.
//!
//! The tokenizer is the WHATWG's, so that broken markup is read as browsers read it, and every token has
//! its place in the source: only texts change, so that tags, comments, scripts and white space come back
//! byte for byte. A block's text is one text; each tag in it is one character of the private use area, which
//! a translation must give back exactly once.

mod elements;
mod passage;

use std::collections::HashMap;
use std::ops::Range;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use super::{Document, Text, has_words};
use passage::{Element, Part, Passage};

/// Attributes that people read.
const READ_ATTRIBUTES: [&[u8]; 3] = [b"title", b"alt", b"placeholder"];

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
        if self.ignored.iter().any(|name| name.as_bytes() == tag.name.as_slice()) {
            return true;
        }
        let value = |name: &[u8]| tag.attributes.get(name).map(|value| value.value.as_slice());
        let says_no = value(b"translate").is_some_and(|value| value.eq_ignore_ascii_case(b"no"));
        if self.xml {
            return says_no;
        }
        let mut classes = value(b"class").unwrap_or_default().split(u8::is_ascii_whitespace);
        says_no
            || classes.any(|class| class.eq_ignore_ascii_case(b"notranslate"))
            || elements::is_kept(&tag.name)
    }

    fn opens(&self, tag: &StartTag<usize>) -> bool {
        if self.xml { !tag.self_closing } else { !elements::is_void(&tag.name) }
    }

    /// Texts do not run over this tag.
    fn cuts(&self, name: &[u8]) -> bool {
        !self.xml && elements::is_block(name)
    }
}

/// Takes markup apart; nothing is refused.
pub fn read(source: &str, markup: &Markup) -> Document {
    let mut reader = Reader {
        source,
        markup,
        texts: Vec::new(),
        parts: Vec::new(),
        done: 0,
        passage: Vec::new(),
        kept: Vec::new(),
        kept_names: HashMap::new(),
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

struct Reader<'a> {
    source: &'a str,
    markup: &'a Markup,
    texts: Vec<Text>,
    parts: Vec<Part>,
    /// The source up to here is in `parts`.
    done: usize,
    /// Since the last block.
    passage: Vec<Element>,
    /// Open elements from the outermost kept one on; empty outside of kept elements.
    kept: Vec<Vec<u8>>,
    /// How many of each name are in `kept`: an end tag that ends none of them must not search them all.
    kept_names: HashMap<Vec<u8>, usize>,
    kept_from: usize,
}

impl Reader<'_> {
    fn take(&mut self, token: Token<usize>) {
        match token {
            // A message about the token that follows, which is the text or tag to look at.
            Token::Error(_) => {}
            Token::StartTag(tag) => self.start(&tag),
            Token::EndTag(tag) => self.end_tag(&tag.name, tag.span.start..tag.span.end),
            _ if !self.kept.is_empty() => {}
            Token::String(string) => {
                let content = String::from_utf8_lossy(&string.value).into_owned();
                self.passage.push(Element::Text(string.span.start..string.span.end, content));
            }
            Token::Comment(comment) => self.keep(comment.span.start..comment.span.end),
            Token::Doctype(_) => self.end_passage(),
        }
    }

    /// A part of the source without text, in the middle of a text.
    fn keep(&mut self, place: Range<usize>) {
        self.passage.push(Element::Kept(place.clone(), vec![Part::Source(place)]));
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        let (place, opens) = (tag.span.start..tag.span.end, self.markup.opens(tag));
        if !self.kept.is_empty() {
            if opens {
                self.open_kept(&tag.name);
            }
            return;
        }
        if self.markup.cuts(&tag.name) {
            self.end_passage();
        }
        if self.markup.keeps(tag) && opens {
            self.open_kept(&tag.name);
            self.kept_from = place.start;
        } else if self.markup.keeps(tag) || self.markup.xml {
            self.keep(place);
        } else {
            let parts = self.parts_of(tag);
            self.passage.push(Element::Kept(place, parts));
            if self.markup.cuts(&tag.name) {
                self.end_passage();
            }
        }
    }

    fn open_kept(&mut self, name: &[u8]) {
        *self.kept_names.entry(name.to_vec()).or_default() += 1;
        self.kept.push(name.to_vec());
    }

    /// Leaves the `outer` outermost ones open.
    fn close_kept(&mut self, outer: usize) {
        for name in self.kept.drain(outer..) {
            if let Some(count) = self.kept_names.get_mut(&name) {
                *count -= 1;
            }
        }
    }

    fn end_tag(&mut self, name: &[u8], place: Range<usize>) {
        let is_open = self.kept_names.get(name).is_some_and(|count| *count > 0);
        let place_in_kept = if is_open { self.kept.iter().rposition(|open| open == name) } else { None };
        match place_in_kept {
            Some(0) => {
                self.close_kept(0);
                self.keep(self.kept_from..place.end);
            }
            Some(index) => self.close_kept(index),
            // Nothing inside opened it: it ends a `<p>` without `</p>`, say, and is itself the next tag.
            None if self.kept.first().is_some_and(|open| elements::has_optional_end(open)) => {
                self.close_kept(0);
                self.keep(self.kept_from..place.start);
                self.keep(place);
            }
            None if !self.kept.is_empty() => return,
            None => self.keep(place),
        }
        if self.kept.is_empty() && self.markup.cuts(name) {
            self.end_passage();
        }
    }

    /// A start tag around the texts of its attributes.
    fn parts_of(&mut self, tag: &StartTag<usize>) -> Vec<Part> {
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (name, value) in &tag.attributes {
            let text = String::from_utf8_lossy(&value.value);
            if !READ_ATTRIBUTES.contains(&name.as_slice()) || !has_words(&text) {
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
            parts.push(Part::Attribute(self.texts.len()));
            self.texts.push(text.into());
            done = place.end;
        }
        parts.push(Part::Source(done..tag.span.end));
        parts
    }

    fn end_passage(&mut self) {
        let elements = std::mem::take(&mut self.passage);
        for piece in passage::pieces(elements, self.source) {
            let (place, part) = match piece {
                passage::Piece::Kept(place, parts) => {
                    self.copy_to(place.start);
                    self.done = place.end;
                    self.parts.extend(parts);
                    continue;
                }
                passage::Piece::Passage(Passage { place, text, tags }) => {
                    let part = Part::Passage { text: self.texts.len(), tags };
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
        self.end_passage();
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

/// The value with its quotes in `name = "value"`.
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
