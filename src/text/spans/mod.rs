//! Protected spans: the parts of a text that are copied, not translated (addresses, placeholders, markup, emoji,
//! identifiers), and those that only change their form (numbers, prices, times of day).
//!
//! [`find`] finds them. It does not depend on the language, so that training finds the same spans on both sides of a
//! pair ([`shared`]). [`localise`] puts a span in the form of the target language.

mod emoji;
mod localise;
mod markdown;
mod patterns;
mod wide;

use std::ops::Range;

pub use localise::{Languages, localise};

/// The kind of a span, which determines its form in the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A URL, an e-mail address, a file path, an IP address, a phone number.
    Address,
    /// A part that a program fills in: `{name}`, `%1$s`, `${total}`.
    Placeholder,
    /// Tags, entities, Markdown marks, inline code. Spans of this kind keep their order.
    Markup,
    /// An emoji or another symbol.
    Symbol,
    /// A number with its unit or currency. Takes the target language's separators.
    Number,
    /// A date, a time of day, or a time code.
    Time,
    /// A name of a program, file, version, product or variable.
    Identifier,
    /// `@name`, `#tag`.
    Handle,
}

/// A protected part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// In bytes of the text, at character boundaries, not empty.
    pub range: Range<usize>,
    pub kind: Kind,
}

/// All spans of `text`, ascending and disjoint. Takes linear time for any text.
pub fn find(text: &str) -> Vec<Span> {
    if !may_have_spans(text.as_bytes()) {
        return Vec::new();
    }
    let mut links = links(text).into_iter().peekable();
    let mut symbols = emoji::find(text).into_iter().peekable();
    let mut marks = markdown::find(text).into_iter().peekable();
    let mut wide = wide::find(text).into_iter().peekable();
    let mut matches = patterns::Matches::new(text);
    let mut spans: Vec<Span> = Vec::new();
    let mut at = 0;
    loop {
        while links.next_if(|span| span.range.start < at).is_some() {}
        while symbols.next_if(|span| span.range.start < at).is_some() {}
        while marks.next_if(|span| span.range.start < at).is_some() {}
        while wide.next_if(|span| span.range.start < at).is_some() {}
        let others = [links.peek(), wide.peek(), marks.peek(), symbols.peek()].map(Option::<&Span>::cloned);
        // The first span wins; of several at one position, the longest.
        let first = others
            .into_iter()
            .chain([matches.first_from(at)])
            .flatten()
            .min_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end)));
        let Some(span) = first else { return spans };
        at = span.range.end;
        spans.push(span);
    }
}

/// Pairs of a span of the source and its equal on the target side, in the order of the source. Spans are equal if the
/// target has the text of the source, or the form that [`localise`] gives it. Each span is used once.
pub fn shared(source: &str, target: &str, languages: &Languages) -> Vec<(Span, Span)> {
    let sources = find(source);
    if sources.is_empty() {
        return Vec::new();
    }
    let mut targets: Vec<Option<Span>> = find(target).into_iter().map(Some).collect();
    let mut pairs = Vec::new();
    for span in sources {
        let text = &source[span.range.clone()];
        let local = localise(text, span.kind, languages);
        let same = |other: &Span| {
            let other = &target[other.range.clone()];
            other == text || equal_but_for_space(other, &local)
        };
        let partner = targets.iter_mut().find(|other| other.as_ref().is_some_and(same));
        if let Some(partner) = partner.and_then(Option::take) {
            pairs.push((span, partner));
        }
    }
    pairs
}

/// Whether texts are equal; for numbers such as `12,50 €`, apart from spaces.
fn equal_but_for_space(a: &str, b: &str) -> bool {
    let visible = |text: &'_ str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    a == b || (a.contains(char::is_numeric) && visible(a) == visible(b))
}

/// Finds web and e-mail addresses with a scheme or an at sign.
fn links(text: &str) -> Vec<Span> {
    if !text.contains("://") && !text.contains('@') && !text.contains("mailto:") {
        return Vec::new();
    }
    let found =
        linkify::LinkFinder::new().links(text).map(|link| link.start()..link.end()).collect::<Vec<_>>();
    found.into_iter().map(|range| Span { range, kind: Kind::Address }).collect()
}

/// Whether a text may have spans. False for most sentences, which saves the search; takes one pass over the bytes.
fn may_have_spans(text: &[u8]) -> bool {
    const NO: u8 = 0;
    const YES: u8 = 1;
    /// Starts a span only if no white space follows.
    const INNER: u8 = 2;
    const UPPER: u8 = 3;
    const LOWER: u8 = 4;
    static CLASS: [u8; 256] = {
        let mut class = [NO; 256];
        let mut byte = 0;
        while byte < 256 {
            class[byte] = match byte as u8 {
                b'A'..=b'Z' => UPPER,
                b'a'..=b'z' => LOWER,
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b'!' | b'?' | b'"' | b'\'' | b')' => NO,
                b'.' | b':' | b';' | b'-' | b'(' => INNER,
                // Letters of Latin, Greek, Cyrillic and the other two-byte scripts, but for U+0080 to U+00BF.
                0xc3..=0xdf | 0x80..=0xbf => NO,
                _ => YES,
            };
            byte += 1;
        }
        class
    };
    let mut before = NO;
    for (i, &byte) in text.iter().enumerate() {
        let class = CLASS[byte as usize];
        match class {
            YES => return true,
            // The inner capital of a name.
            UPPER if before == LOWER => return true,
            INNER => {
                let next = text.get(i + 1).copied();
                match (byte, next) {
                    // A statement of code may end a text.
                    (b';', None) => return true,
                    (_, None | Some(b' ' | b'"' | b'\'' | b'\n' | b'\r')) => {}
                    // A hyphen within a word, and an opening bracket before one of some length.
                    (b'-', Some(_)) if before == LOWER || before == UPPER => {}
                    (b'(', Some(_)) if text.get(i + 2).is_some_and(u8::is_ascii_lowercase) => {}
                    _ => return true,
                }
            }
            _ => {}
        }
        before = class;
    }
    false
}

#[cfg(test)]
mod tests;
