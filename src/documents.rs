//! Translates documents: the texts that [`formats`](crate::formats) finds in a document become passages, in which
//! tags and the terms of a glossary are protected spans.

use std::ops::Range;

use crate::Result;
use crate::decode::{DecodeOptions, Translator, translate_passages};
use crate::formats::{Format, Text};
use crate::glossary::Glossary;
use crate::text::spans::{Kind, Span};
use crate::text::{GivenSpan, Passage, ReadOptions, Reader};

/// Reads a text of a document. Its tags and the terms of a glossary become protected spans.
pub fn passage(text: &Text, glossary: Option<&Glossary>, reader: &Reader, options: ReadOptions) -> Passage {
    let Text { text, tags } = text;
    let span = |range: &Range<usize>, kind| Span { range: range.clone(), kind };
    let terms = glossary.map(|glossary| glossary.find(text)).unwrap_or_default();
    let terms = terms
        .iter()
        .map(|(place, replacement)| GivenSpan { span: span(place, Kind::Identifier), replacement });
    // Terms and tags never overlap, because terms contain no private-use characters.
    let tags = tags.iter().filter_map(|place| {
        Some(GivenSpan { span: span(place, Kind::Markup), replacement: text.get(place.clone())? })
    });
    let mut given: Vec<GivenSpan<'_>> = terms.chain(tags).collect();
    given.sort_by_key(|given| given.span.range.start);
    reader.read_with(text, &given, options)
}

/// Translates a whole document.
///
/// # Errors
/// [`Error::InvalidRequest`](crate::Error::InvalidRequest) if `source` is not a document of this format, and the errors
/// of the translator.
pub fn translate_document<T: Translator>(
    source: &str,
    format: &Format,
    translator: &T,
    reader: &Reader,
    reading: ReadOptions,
    options: &DecodeOptions,
) -> Result<String> {
    let document = format.read(source)?;
    let mut passages: Vec<Passage> =
        document.texts().iter().map(|text| passage(text, None, reader, reading)).collect();
    translate_passages(translator, &mut passages, options)?;
    Ok(document.rebuild(&passages.iter().map(Passage::text).collect::<Vec<_>>()))
}
