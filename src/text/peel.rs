//! Symbols and markup around a sentence are not part of it: `🎉 Done!`, `<b>Save it.</b>`. The network reads the
//! sentence alone, and they are put back around its translation.

use super::atom::Atom;
use super::spans::Kind;

/// What stands before a sentence, the sentence, and what stands behind it.
pub(super) struct Peeled {
    pub before: String,
    pub atoms: Vec<Atom>,
    pub behind: String,
}

/// Markup is taken off where none is left within the sentence; in any case where what is left would be translated in
/// pieces.
pub(super) fn peel(mut atoms: Vec<Atom>, in_pieces: bool) -> Peeled {
    let symbol = |atom: &Atom| matches!(atom, Atom::Span(span) if span.kind == Kind::Symbol);
    let markup = |atom: &Atom| matches!(atom, Atom::Span(span) if span.kind == Kind::Markup);
    let around = |atom: &Atom| symbol(atom) || markup(atom) || !has_words(atom);
    let first = atoms.iter().position(|atom| !around(atom)).unwrap_or(atoms.len());
    let last = atoms.iter().rposition(|atom| !around(atom)).map_or(first, |last| last + 1);
    let with_markup = in_pieces || !atoms[first..last].iter().any(markup);
    let goes = |atom: &Atom| symbol(atom) || (with_markup && markup(atom)) || !has_words(atom);
    // Punctuation goes only together with a span outside of it.
    let mut start = atoms.iter().position(|atom| !goes(atom)).unwrap_or(atoms.len());
    if !atoms[..start].iter().any(|atom| matches!(atom, Atom::Span(_))) {
        start = 0;
    }
    let mut end = atoms.iter().rposition(|atom| !goes(atom)).map_or(start, |last| last + 1).max(start);
    if !atoms[end..].iter().any(|atom| matches!(atom, Atom::Span(_))) {
        end = atoms.len();
    }
    // The sentence's own punctuation is what stands between its words and the first span behind it.
    if let Some(Atom::Text(_)) = atoms.get(end) {
        end += 1;
    }
    let mut behind: String = atoms.drain(end..).map(|atom| atom.given_back().to_owned()).collect();
    let mut before: String = atoms.drain(..start).map(|atom| atom.given_back().to_owned()).collect();
    if let Some(Atom::Text(text)) = atoms.first_mut().filter(|_| !before.is_empty()) {
        let white = text.len() - text.trim_start().len();
        before.extend(text.drain(..white));
    }
    if let Some(Atom::Text(text)) = atoms.last_mut().filter(|_| !behind.is_empty()) {
        let white = text.split_off(text.trim_end().len());
        behind.insert_str(0, &white);
    }
    atoms.retain(|atom| atom.len() > 0);
    Peeled { before, atoms, behind }
}

fn has_words(atom: &Atom) -> bool {
    match atom {
        Atom::Text(text) => text.contains(char::is_alphanumeric),
        Atom::Span(_) => true,
    }
}

#[cfg(test)]
mod tests;
