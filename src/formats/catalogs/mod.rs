//! Translation catalogs: gettext's PO and XLIFF. Messages that have a translation are kept; the others get one.
//!
//! PO is parsed here, line by line: the available crates panic on an unbalanced quote or drop obsolete entries.

mod inline;

use std::ops::Range;

use quick_xml::events::Event;

use super::edits::{Edits, Escape};
use super::{Document, has_words};
use crate::{Error, Result};
use inline::{Content, characters, is_translatable};

/// The strings of a keyword: their content, and their place in the source with the quotes.
#[derive(Debug, Default)]
struct Field {
    text: String,
    place: Range<usize>,
}

/// A message of a PO file, as far as it has been read.
#[derive(Debug, Default)]
struct Message {
    context: Option<Field>,
    id: Option<Field>,
    plural_id: Option<Field>,
    translations: Vec<Field>,
}

impl Message {
    /// Adds the message's edits: an empty `msgstr` gets the translation of the singular, and from the second plural
    /// form on that of the plural.
    fn finish(self, edits: &mut Edits) {
        let Some(id) = self.id.filter(|id| has_words(&id.text)) else { return };
        for (form, translation) in self.translations.into_iter().enumerate() {
            let source = if form == 0 { &id } else { self.plural_id.as_ref().unwrap_or(&id) };
            if translation.text.is_empty() {
                edits.push(translation.place, source.text.clone(), Escape::Quoted);
            }
        }
    }
}

/// # Errors
/// [`Error::InvalidRequest`] with the line number, for a string without quotes or before any keyword.
pub fn read_po(source: &str) -> Result<Document> {
    let mut edits = Edits::default();
    let mut message = Message::default();
    let mut start = 0;
    for (number, line) in (1..).zip(source.split_inclusive('\n')) {
        let content = line.trim();
        let offset = start + (line.len() - line.trim_start().len());
        start += line.len();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let bad = || Error::InvalidRequest(format!("the file is not a PO catalog: line {number}"));
        let quote = content.find('"').ok_or_else(bad)?;
        let (keyword, string) = (content[..quote].trim_end(), &content[quote..]);
        let text = unquote(string).ok_or_else(bad)?;
        let place = offset + quote..offset + content.len();
        let field = Field { text, place };
        match keyword {
            "" => {
                let last = message.translations.last_mut();
                let last = last.or(message.plural_id.as_mut()).or(message.id.as_mut());
                let last = last.or(message.context.as_mut()).ok_or_else(bad)?;
                last.text.push_str(&field.text);
                last.place.end = field.place.end;
            }
            "msgctxt" => {
                std::mem::take(&mut message).finish(&mut edits);
                message.context = Some(field);
            }
            "msgid" => {
                if message.id.is_some() {
                    std::mem::take(&mut message).finish(&mut edits);
                }
                message.id = Some(field);
            }
            "msgid_plural" => message.plural_id = Some(field),
            keyword if keyword.starts_with("msgstr") => message.translations.push(field),
            _ => return Err(bad()),
        }
    }
    message.finish(&mut edits);
    Ok(edits.into_document(source))
}

/// Unescapes a string in C's notation; `None` if it has no quotes.
fn unquote(string: &str) -> Option<String> {
    let inner = string.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    Some(text)
}

/// A `<source>` and the place of its translation.
#[derive(Default)]
struct Unit {
    /// The content of `<source>`.
    content: Option<Content>,
    /// The place after `</source>`.
    after_source: usize,
    /// The whole `<target>` element, if it is empty.
    empty_target: Option<Range<usize>>,
    translated: bool,
}

/// XLIFF 1.2 (`trans-unit`) and 2 (`segment`). A translation has the inline elements of its source. What is marked as
/// not to be translated stays as it is.
///
/// # Errors
/// [`Error::InvalidRequest`] if `source` is not well-formed XML or has no `<xliff>`.
pub fn read_xliff(source: &str) -> Result<Document> {
    // The reader does not count a byte order mark in its positions.
    let xml = source.trim_start_matches('\u{feff}');
    let offset = source.len() - xml.len();
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut edits = Edits::default();
    let (mut unit, mut in_source, mut target, mut is_xliff) = (Unit::default(), false, None::<usize>, false);
    let mut proposals = 0_usize;
    // Whether the content of each open container is to be translated, from the outermost inwards.
    let mut containers: Vec<bool> = Vec::new();
    loop {
        let begin = offset + reader.buffer_position() as usize;
        let event = reader.read_event().map_err(|error| bad_xml(&error))?;
        let end = offset + reader.buffer_position() as usize;
        if matches!(event, Event::Eof) {
            break;
        }
        if let Some(content) = unit.content.as_mut().filter(|_| in_source) {
            if content.take(&event, begin..end)? {
                (in_source, unit.after_source) = (false, end);
            }
            continue;
        }
        // Proposals of a translation memory are not part of the unit.
        match &event {
            Event::Start(tag) if matches!(tag.local_name().as_ref(), "alt-trans" | "matches") => {
                proposals += 1
            }
            Event::End(tag) if matches!(tag.local_name().as_ref(), "alt-trans" | "matches") => proposals -= 1,
            _ => {}
        }
        if proposals > 0 {
            continue;
        }
        if let Event::Start(tag) = &event
            && is_container(tag.local_name().as_ref())
        {
            let inherited = containers.last().copied().unwrap_or(true);
            containers.push(is_translatable(tag).unwrap_or(inherited));
        }
        match &event {
            Event::Start(tag) => match tag.local_name().as_ref() {
                "xliff" => is_xliff = true,
                "trans-unit" | "segment" => unit = Unit::default(),
                "source" if target.is_none() => {
                    in_source = true;
                    unit.content = Some(Content::starting_at(end));
                }
                "target" => target = Some(begin),
                _ => {}
            },
            Event::Empty(tag) if tag.local_name().as_ref() == "target" => {
                unit.empty_target = Some(begin..end)
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                "target" => {
                    if let Some(begin) = target.take().filter(|_| !unit.translated) {
                        unit.empty_target = Some(begin..end);
                    }
                }
                "trans-unit" | "segment" => {
                    let unit = std::mem::take(&mut unit);
                    if containers.last() != Some(&false) {
                        finish_unit(unit, source, &mut edits);
                    }
                }
                _ => {}
            },
            other => {
                let text = characters(other)?;
                unit.translated |= target.is_some() && text.is_some_and(|text| !text.trim().is_empty());
            }
        }
        if let Event::End(tag) = &event
            && is_container(tag.local_name().as_ref())
        {
            containers.pop();
        }
    }
    if is_xliff {
        Ok(edits.into_document(source))
    } else {
        Err(Error::InvalidRequest("the file is not XLIFF: it has no <xliff>".into()))
    }
}

/// Whether the element's `translate` holds for the units in it.
fn is_container(name: &str) -> bool {
    matches!(name, "file" | "group" | "unit" | "trans-unit")
}

fn finish_unit(unit: Unit, source: &str, edits: &mut Edits) {
    let Unit { content, after_source, empty_target, translated } = unit;
    let text = content.filter(|_| !translated).and_then(|content| content.text(source));
    let Some((text, escape)) = text else { return };
    edits.push(empty_target.unwrap_or(after_source..after_source), text, escape);
}

fn bad_xml(error: &impl std::fmt::Display) -> Error {
    Error::InvalidRequest(format!("the file is not well-formed XML: {error}"))
}
