//! Finds spans by their two ends: comments, SQL statements, ICU blocks of plural forms. Also finds runs of letters,
//! digits and joiners that are too long for a word. Each takes one pass, even if many spans have no end.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::LazyLock;

use regex_automata::meta::Regex;

use super::{Kind, Span};

/// Words, file names and paths that people write are not longer than this.
const MAX_WORD_BYTES: usize = 256;

/// The spans, ascending by their start, the longest first. They may overlap.
pub fn find(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut add = |range: Range<usize>, kind: Kind| spans.push(Span { range, kind });
    comments(text).for_each(|range| add(range, Kind::Markup));
    statements(text, &mut add);
    plural_blocks(text, &mut add);
    runs(text.as_bytes()).for_each(|range| add(range, Kind::Identifier));
    spans.sort_by_key(|span| (span.range.start, Reverse(span.range.end)));
    spans
}

/// `<!-- … -->` within a line.
fn comments(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find("<!--")?;
            let inner = start + "<!--".len();
            // Without an end here, later comments have no end either.
            let end = inner + text[inner..].find("-->")? + "-->".len();
            match text[inner..end].find('\n') {
                Some(line) => at = inner + line + 1,
                None => {
                    at = end;
                    return Some(start..end);
                }
            }
        }
    })
}

/// `DROP TABLE users;`: from one of the words to the next semicolon of the line.
fn statements(text: &str, add: &mut impl FnMut(Range<usize>, Kind)) {
    static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words = r"SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|(?:DROP|CREATE|ALTER) TABLE";
        Regex::new(&format!(r"(?-u:\b)(?:{words})(?-u:\b)")).ok()
    });
    let Some(words) = WORDS.as_ref().filter(|_| text.contains(';')) else { return };
    let mut free = 0;
    for found in words.find_iter(text) {
        if found.start() < free || text[..found.start()].ends_with(char::is_alphanumeric) {
            continue;
        }
        let Some(end) = text[found.end()..].find([';', '\n']).map(|at| found.end() + at + 1) else { return };
        if text[..end].ends_with(';') {
            add(found.start()..end, Kind::Identifier);
        }
        // If the line has no semicolon, its later words have none either.
        free = end;
    }
}

/// Complete ICU blocks of plural or select forms: `{count, plural, one {# photo} other {# photos}}`.
fn plural_blocks(text: &str, add: &mut impl FnMut(Range<usize>, Kind)) {
    if !(text.contains("plural") || text.contains("select")) {
        return;
    }
    let mut open = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => {
                if let Some(start) = open.pop()
                    && is_plural(&text[start + 1..at])
                {
                    add(start..at + 1, Kind::Placeholder);
                }
            }
            _ => {}
        }
    }
}

/// Whether the content of a block starts with a name and the kind of its forms.
fn is_plural(content: &str) -> bool {
    let head = content.split(['{', '}']).next().unwrap_or_default();
    let mut parts = head.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let form = parts.next().unwrap_or_default();
    !name.is_empty() && matches!(form, "plural" | "select" | "selectordinal")
}

/// Keys, hashes and encoded data, without the point or colon of a sentence after them.
fn runs(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let joins = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$%\\/:+-@*~".contains(&byte);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].iter().position(|&byte| joins(byte))?;
            let length = text[start..].iter().position(|&byte| !joins(byte)).unwrap_or(text.len() - start);
            at = start + length;
            let inner =
                text[start..at].iter().rposition(|byte| !b".:".contains(byte)).map_or(0, |last| last + 1);
            if inner > MAX_WORD_BYTES {
                return Some(start..start + inner);
            }
        }
    })
}
