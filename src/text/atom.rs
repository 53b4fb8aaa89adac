//! What a sentence is made of: text and spans.

use super::spans::Kind;

#[derive(Clone, Debug)]
pub(super) enum Atom {
    Text(String),
    Span(SpanAtom),
}

#[derive(Clone, Debug)]
pub(super) struct SpanAtom {
    pub text: String,
    /// What stands in the translation.
    pub local: String,
    pub kind: Kind,
    pub spacing: Spacing,
}

/// What stands around a span in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spacing {
    /// White space, or the start of the line.
    pub before: bool,
    /// White space, or the end of the line.
    pub behind: bool,
    /// A letter or digit is behind it, as behind `<b>` but not behind `</b>.`.
    pub joins: bool,
}

impl Atom {
    /// What stands in the translation if nothing is translated.
    pub fn given_back(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Span(span) => &span.local,
        }
    }

    /// Bytes of the source.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Span(span) => span.text.len(),
        }
    }
}

/// What stands between the spans.
pub(super) fn texts(atoms: &[Atom]) -> impl Iterator<Item = &str> {
    atoms.iter().filter_map(|atom| match atom {
        Atom::Text(text) => Some(text.as_str()),
        Atom::Span(_) => None,
    })
}
