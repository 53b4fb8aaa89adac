//! The parts of a sentence: text and spans.

use super::spans::Kind;

#[derive(Clone, Debug)]
pub(super) enum Atom {
    Text(String),
    Span(SpanAtom),
}

#[derive(Clone, Debug)]
pub(super) struct SpanAtom {
    pub text: String,
    /// The text of the span in the translation.
    pub replacement: String,
    pub kind: Kind,
    pub spacing: Spacing,
}

/// The characters around a span in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spacing {
    /// White space or the start of the line comes before it.
    pub before: bool,
    /// White space or the end of the line follows it.
    pub after: bool,
    /// A letter or digit follows it, as after `<b>` but not after `</b>.`.
    pub word_follows: bool,
}

impl Atom {
    /// The text in the translation if the network translates nothing.
    pub fn untranslated(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Span(span) => &span.replacement,
        }
    }

    /// Number of bytes in the source.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Span(span) => span.text.len(),
        }
    }
}

/// The texts between the spans.
pub(super) fn texts(atoms: &[Atom]) -> impl Iterator<Item = &str> {
    atoms.iter().filter_map(|atom| match atom {
        Atom::Text(text) => Some(text.as_str()),
        Atom::Span(_) => None,
    })
}
