//! Finds Markdown links. The brackets and the target are spans, and the text between them is translated.

use super::{Kind, Span};

/// The spans, ascending and disjoint, in one pass.
pub fn find(text: &str) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut spans = Vec::new();
    // The last opening bracket of the line.
    let mut open = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, open) {
            (b'\n', _) => open = None,
            (b'[', _) => open = Some(at - 1),
            (b']', Some(start)) if bytes.get(at) == Some(&b'(') => {
                // Targets with brackets are not recognized. So the search for the end stops at the next link.
                let end = text[at + 1..].find([')', '(', '\n']).map(|end| at + 1 + end);
                let Some(close) = end.filter(|&end| bytes[end] == b')') else { continue };
                let image = text[..start].ends_with('!');
                spans.push(Span { range: start - usize::from(image)..start + 1, kind: Kind::Markup });
                spans.push(Span { range: at - 1..close + 1, kind: Kind::Markup });
                open = None;
                at = close + 1;
            }
            _ => {}
        }
    }
    spans
}
