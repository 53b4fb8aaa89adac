use super::*;
use crate::text::atom::{Spacing, SpanAtom};
use crate::text::spans;

fn atoms(text: &str) -> Vec<Atom> {
    let (mut atoms, mut at) = (Vec::new(), 0);
    for span in spans::find(text) {
        if at < span.range.start {
            atoms.push(Atom::Text(text[at..span.range.start].to_owned()));
        }
        at = span.range.end;
        let text = text[span.range].to_owned();
        let spacing = Spacing { before: false, after: false, word_follows: false };
        atoms.push(Atom::Span(SpanAtom { replacement: text.clone(), text, kind: span.kind, spacing }));
    }
    if at < text.len() {
        atoms.push(Atom::Text(text[at..].to_owned()));
    }
    atoms
}

#[test]
fn symbols_and_markup_around_a_sentence_are_removed() {
    for (text, in_pieces, before, inner, after) in [
        ("<b>Save it.</b>", false, "<b>", "Save it.", "</b>"),
        ("🎉 Done! 👏", false, "🎉 ", "Done!", " 👏"),
        ("<p><b>Save</b> it</p>", false, "", "<p><b>Save</b> it</p>", ""),
        ("<p><b>Save</b> it</p>", true, "<p><b>", "Save</b> it", "</p>"),
        ("Save it.", false, "", "Save it.", ""),
        ("{0} is <br>", false, "", "{0} is", " <br>"),
        ("<br>", false, "<br>", "", ""),
        ("(**Save**)", true, "(**", "Save", "**)"),
    ] {
        let peeled = peel(atoms(text), in_pieces);
        let given: String = peeled.atoms.iter().map(Atom::untranslated).collect();
        assert_eq!(
            (peeled.before.as_str(), given.as_str(), peeled.after.as_str()),
            (before, inner, after),
            "{text}"
        );
    }
}
