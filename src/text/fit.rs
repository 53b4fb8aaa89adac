//! Cuts sentences above the limit of a network near their middle until they fit: after a clause, otherwise at white
//! space or next to a span, otherwise between characters.

use super::atom::Atom;
use super::reader::Reader;
use super::split::clause_ends;
use super::unit::Unit;

/// A part of a sentence, or the white space between two parts.
#[derive(Debug)]
pub(super) enum Fitted {
    Unit(Unit),
    Gap(String),
}

/// Appends a sentence, in parts that fit, to `out`.
pub(super) fn fit(atoms: Vec<Atom>, reader: &Reader, out: &mut Vec<Fitted>) {
    if reader.is_stopped() {
        return;
    }
    let atoms = match Unit::new(atoms, reader) {
        Ok(unit) => return out.push(Fitted::Unit(unit)),
        Err(atoms) => atoms,
    };
    let bytes: usize = atoms.iter().map(Atom::len).sum();
    let Some((mut left, mut right)) = cut(&atoms, bytes) else {
        out.push(Fitted::Unit(Unit::copied(atoms)));
        return;
    };
    let mut gap = String::new();
    if let Some(Atom::Text(text)) = left.last_mut() {
        let end = text.trim_end().len();
        gap = text.split_off(end);
    }
    if let Some(Atom::Text(text)) = right.first_mut() {
        let start = text.len() - text.trim_start().len();
        gap.extend(text.drain(..start));
    }
    let empty = |atom: &Atom| atom.len() == 0;
    left.retain(|atom| !empty(atom));
    right.retain(|atom| !empty(atom));
    if !left.is_empty() {
        fit(left, reader, out);
    }
    if !gap.is_empty() {
        out.push(Fitted::Gap(gap));
    }
    if !right.is_empty() {
        fit(right, reader, out);
    }
}

/// Kinds of places where a sentence may be cut, the best first.
const CLAUSE: usize = 0;
const SPACE: usize = 1;
const CHARACTER: usize = 2;

/// Cuts a sentence into two parts that are not empty; `None` for a single span or character.
fn cut(atoms: &[Atom], bytes: usize) -> Option<(Vec<Atom>, Vec<Atom>)> {
    let middle = bytes / 2;
    // The place of each kind that is nearest to the middle: atom, offset in it, distance.
    let mut best: [Option<(usize, usize, usize)>; 3] = [None; 3];
    let mut consider = |kind: usize, atom: usize, offset: usize, place: usize| {
        let distance = place.abs_diff(middle);
        let far = kind != CHARACTER && distance > bytes / 4;
        let nearer = best[kind].is_none_or(|(.., other)| distance < other);
        if place > 0 && place < bytes && nearer && !far {
            best[kind] = Some((atom, offset, distance));
        }
    };
    let mut start = 0;
    for (i, atom) in atoms.iter().enumerate() {
        if i > 0 {
            consider(SPACE, i, 0, start);
        }
        if let Atom::Text(text) = atom {
            clause_ends(text)
                .filter(|&end| end < text.len())
                .for_each(|end| consider(CLAUSE, i, end, start + end));
            for (at, c) in text.char_indices().filter(|&(at, _)| at > 0) {
                if c.is_whitespace() {
                    consider(SPACE, i, at, start + at);
                } else if !is_joined(c) {
                    consider(CHARACTER, i, at, start + at);
                }
            }
        }
        start += atom.len();
    }
    let (at, offset, _) = best.into_iter().flatten().next().or_else(|| {
        // Only spans: cut between two of them.
        (atoms.len() > 1).then_some((atoms.len() / 2, 0, 0))
    })?;
    let (mut left, mut right) = (atoms[..at].to_vec(), atoms[at..].to_vec());
    if let (Some(Atom::Text(text)), true) = (right.first_mut(), offset > 0) {
        let rest = text.split_off(offset);
        left.push(Atom::Text(std::mem::replace(text, rest)));
    }
    Some((left, right))
}

/// Whether a character combines with the one before it.
fn is_joined(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{20d0}'..='\u{20ff}')
}
