//! Markdown links: the brackets and the target are spans, the text between them is translated.

use super::{Kind, Span};

pub fn find(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(middle) = text[from..].find("](").map(|at| from + at) {
        from = middle + 2;
        let line = text[..middle].rfind('\n').map_or(0, |at| at + 1);
        let Some(open) = text[line..middle].rfind('[').map(|at| line + at) else { continue };
        // What cannot be closed here cannot be closed before that place either: one pass, however many brackets.
        let Some(close) = text[from..].find([')', '\n']).map(|at| from + at) else { break };
        if text.as_bytes()[close] != b')' {
            from = close + 1;
            continue;
        }
        if let Some(inner) = text[from..close].rfind('(').map(|at| from + at) {
            from = if text[..inner].ends_with(']') { inner - 1 } else { inner };
            continue;
        }
        let start = if text[..open].ends_with('!') { open - 1 } else { open };
        spans.push(Span { range: start..open + 1, kind: Kind::Markup });
        spans.push(Span { range: middle..close + 1, kind: Kind::Markup });
        from = close + 1;
    }
    // A bracket may be claimed twice ("[a](b)](c)"): the first claim stands.
    let mut end = 0;
    spans.retain(|span| {
        let free = span.range.start >= end;
        end = end.max(span.range.end);
        free
    });
    spans
}
