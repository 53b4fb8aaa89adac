//! Removes symbols and markup around a sentence: `🎉 Done!`, `<b>Save it.</b>`. The network reads only the sentence; its
//! translation gets them back.

use super::atom::Atom;
use super::spans::Kind;

/// A sentence, and the text before and after it.
pub(super) struct Peeled {
    pub before: String,
    pub atoms: Vec<Atom>,
    pub after: String,
}

/// Removes symbols around a sentence. Removes markup around it only if the sentence itself has none, or if it would be
/// translated in pieces.
pub(super) fn peel(mut atoms: Vec<Atom>, in_pieces: bool) -> Peeled {
    let symbol = |atom: &Atom| matches!(atom, Atom::Span(span) if span.kind == Kind::Symbol);
    let markup = |atom: &Atom| matches!(atom, Atom::Span(span) if span.kind == Kind::Markup);
    let around = |atom: &Atom| symbol(atom) || markup(atom) || !has_words(atom);
    let first = atoms.iter().position(|atom| !around(atom)).unwrap_or(atoms.len());
    let last = atoms.iter().rposition(|atom| !around(atom)).map_or(first, |last| last + 1);
    let with_markup = in_pieces || !atoms[first..last].iter().any(markup);
    let removable = |atom: &Atom| symbol(atom) || (with_markup && markup(atom)) || !has_words(atom);
    // Punctuation is removed only together with a span outside of it.
    let mut start = atoms.iter().position(|atom| !removable(atom)).unwrap_or(atoms.len());
    if !atoms[..start].iter().any(|atom| matches!(atom, Atom::Span(_))) {
        start = 0;
    }
    let mut end = atoms.iter().rposition(|atom| !removable(atom)).map_or(start, |last| last + 1).max(start);
    if !atoms[end..].iter().any(|atom| matches!(atom, Atom::Span(_))) {
        end = atoms.len();
    }
    // Punctuation between the words and the first span after them belongs to the sentence.
    if let Some(Atom::Text(_)) = atoms.get(end) {
        end += 1;
    }
    let mut after: String = atoms.drain(end..).map(|atom| atom.untranslated().to_owned()).collect();
    let mut before: String = atoms.drain(..start).map(|atom| atom.untranslated().to_owned()).collect();
    if let Some(Atom::Text(text)) = atoms.first_mut().filter(|_| !before.is_empty()) {
        let white = text.len() - text.trim_start().len();
        before.extend(text.drain(..white));
    }
    if let Some(Atom::Text(text)) = atoms.last_mut().filter(|_| !after.is_empty()) {
        let white = text.split_off(text.trim_end().len());
        after.insert_str(0, &white);
    }
    atoms.retain(|atom| atom.len() > 0);
    Peeled { before, atoms, after }
}

fn has_words(atom: &Atom) -> bool {
    match atom {
        Atom::Text(text) => text.contains(char::is_alphanumeric),
        Atom::Span(_) => true,
    }
}

#[cfg(test)]
mod tests;
