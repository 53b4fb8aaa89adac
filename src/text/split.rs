//! Finds the ends of sentences and clauses.
//!
//! Sentence boundaries are those of Unicode (UAX 29, by ICU4X), corrected for a short list of abbreviations. Line
//! breaks always end a sentence.

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

pub(super) fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The ends of the sentences of a line, white space included, ascending. The last is the end of the line.
pub(super) fn sentence_ends(line: &str) -> Vec<usize> {
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut ends = Vec::new();
    let mut start = 0;
    for end in segmenter.segment_str(line).filter(|&end| end > 0) {
        if end == line.len() || !is_false_end(&line[start..end], &line[end..]) {
            ends.push(end);
            start = end;
        }
    }
    ends
}

/// A sentence always continues after these. Without the final point, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "lt", "sgt", "capt", "st", "mt", "e.g",
    "i.e", "cf", "vs", "hr", "fr", "z.b", "d.h", "u.a", "bzw", "ca", "evtl", "ggf", "inkl", "vgl", "sog",
    "geb", "nr",
];

/// A sentence continues after these if a number follows ("No. 7"; but "No. I do not").
const BEFORE_NUMBERS: &[&str] =
    &["no", "nos", "p", "pp", "vol", "fig", "ch", "art", "abb", "bd", "kap", "abs"];

/// A German date continues after its ordinal ("am 3. Oktober").
const MONTHS: &[&str] = &[
    "Januar",
    "Jänner",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];

/// Whether the boundary between `before` and `after` is only the point of an abbreviation, of an initial ("J. Bach",
/// "z. B."; "I" is a word) or of a day.
fn is_false_end(before: &str, after: &str) -> bool {
    let Some(stem) = before.trim_end().strip_suffix('.') else {
        return false;
    };
    let word = stem.rsplit(char::is_whitespace).next().unwrap_or(stem);
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower = word.to_lowercase();
    let mut letters = word.chars();
    let initial =
        matches!((letters.next(), letters.next()), (Some(c), None) if c.is_alphabetic() && c != 'I');
    let day = matches!(word.len(), 1 | 2) && word.bytes().all(|b| b.is_ascii_digit());
    initial
        || ABBREVIATIONS.contains(&lower.as_str())
        || (BEFORE_NUMBERS.contains(&lower.as_str()) && after.starts_with(char::is_numeric))
        || (day && MONTHS.iter().any(|month| after.starts_with(month)))
}

/// The possible ends of clauses, ascending. The last is the end of `sentence`. Marks inside numbers and times ("3,5",
/// "12:30") do not count: ASCII punctuation needs white space after it.
pub(super) fn clause_ends(sentence: &str) -> impl Iterator<Item = usize> {
    let ends = sentence.char_indices().filter_map(move |(at, c)| {
        let end = at + c.len_utf8();
        let spaced = || sentence[end..].starts_with(char::is_whitespace);
        let ends = match c {
            ',' | ';' | ':' | '–' => spaced(),
            '—' | '،' | '؛' | '、' | '，' | '；' | '：' => true,
            _ => false,
        };
        (ends && end < sentence.len()).then_some(end)
    });
    ends.chain(std::iter::once(sentence.len()))
}

#[cfg(test)]
mod tests;
