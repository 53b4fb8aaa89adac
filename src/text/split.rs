//! A text as sentences and what stands between them. Networks translate sentences; everything else (white
//! space, line breaks, rules of dashes) goes through untouched, so that a translated page keeps its
//! shape.
//!
//! Sentence boundaries are Unicode's (UAX 29, by ICU4X), corrected for a short list of abbreviations
//! that its rules do not know. Line breaks always separate.

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

use crate::{Error, Result};

/// A part of a text. The parts of a text, one after the other, are the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// To be translated: no white space at its ends, at least one letter or digit, no line break.
    Sentence(&'a str),
    /// To be kept as it is: white space, line breaks, and runs without any letter or digit.
    Gap(&'a str),
}

impl<'a> Piece<'a> {
    pub fn text(self) -> &'a str {
        match self {
            Self::Sentence(text) | Self::Gap(text) => text,
        }
    }

    pub fn sentence(self) -> Option<&'a str> {
        match self {
            Self::Sentence(text) => Some(text),
            Self::Gap(_) => None,
        }
    }
}

/// The sentences of `text` and the gaps around them.
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for line in text.split_inclusive(is_line_break) {
        let content = line.trim_end_matches(is_line_break);
        for sentence in sentences(content) {
            push(&mut pieces, sentence);
        }
        push(&mut pieces, &line[content.len()..]);
    }
    pieces
}

/// Splits an over-long sentence after clause punctuation into pieces of at most `limit` tokens, as few
/// as a greedy walk finds; a sentence that fits stays whole. `tokens` counts what the network would
/// read.
///
/// # Errors
/// [`Error::TooLarge`], with the tokens of the offending clause, where a clause is above the limit;
/// whatever `tokens` answers with.
pub fn split_to_fit<'a>(
    sentence: &'a str,
    limit: usize,
    tokens: impl Fn(&str) -> Result<usize>,
) -> Result<Vec<Piece<'a>>> {
    let mut pieces = Vec::new();
    if tokens(sentence)? <= limit {
        push(&mut pieces, sentence);
        return Ok(pieces);
    }
    // Counts nearly add up, so each clause is counted once and only the finished piece again: a long
    // text of short clauses must not cost its square.
    let around = tokens("")?; // bos and eos
    let mut clauses = Vec::new();
    let mut start = 0;
    for end in clause_ends(sentence) {
        let size = tokens(sentence[start..end].trim())?;
        if size > limit {
            return Err(Error::TooLarge { what: "tokens of a clause", size, limit });
        }
        clauses.push((start, end, size.saturating_sub(around)));
        start = end;
    }
    let mut rest = clauses.as_slice();
    while let Some(&(start, ..)) = rest.first() {
        let mut sum = around;
        let fits = |&&(.., size): &&(usize, usize, usize)| {
            sum += size;
            sum <= limit
        };
        let mut count = rest.iter().take_while(fits).count().max(1);
        while count > 1 && tokens(sentence[start..rest[count - 1].1].trim())? > limit {
            count -= 1;
        }
        push(&mut pieces, &sentence[start..rest[count - 1].1]);
        rest = &rest[count..];
    }
    Ok(pieces)
}

/// Puts translations where the sentences of `pieces` stood; gaps stay.
///
/// # Errors
/// [`Error::InvalidRequest`] where there are not as many translations as sentences.
pub fn rejoin<S: AsRef<str>>(pieces: &[Piece<'_>], translations: &[S]) -> Result<String> {
    let sentences = pieces.iter().filter(|piece| piece.sentence().is_some()).count();
    if sentences != translations.len() {
        return Err(Error::InvalidRequest(format!(
            "{} translations for {sentences} sentences",
            translations.len()
        )));
    }
    let mut translations = translations.iter();
    let text = |piece: &Piece<'_>| match *piece {
        Piece::Gap(gap) => gap.to_owned(),
        Piece::Sentence(_) => translations.next().map_or_else(String::new, |t| t.as_ref().to_owned()),
    };
    Ok(pieces.iter().map(text).collect())
}

/// Appends `part` as gap, sentence, gap, each where it is not empty.
fn push<'a>(pieces: &mut Vec<Piece<'a>>, part: &'a str) {
    let body = part.trim();
    let before = part.len() - part.trim_start().len();
    let (before, rest) = part.split_at(if body.is_empty() { part.len() } else { before });
    let (body, after) = rest.split_at(body.len());
    let body = if body.contains(char::is_alphanumeric) { Piece::Sentence(body) } else { Piece::Gap(body) };
    let parts = [Piece::Gap(before), body, Piece::Gap(after)];
    pieces.extend(parts.into_iter().filter(|piece| !piece.text().is_empty()));
}

pub(super) fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The sentences of a line, white space included, in order and without loss.
fn sentences(line: &str) -> Vec<&str> {
    let mut start = 0;
    sentence_ends(line).into_iter().map(|end| &line[std::mem::replace(&mut start, end)..end]).collect()
}

/// Where the sentences of a line end, white space included, ascending; the last is the end of the line.
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

/// After these a sentence goes on, whatever comes. Without the final point, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "lt", "sgt", "capt", "st", "mt", "e.g",
    "i.e", "cf", "vs", "hr", "fr", "z.b", "d.h", "u.a", "bzw", "ca", "evtl", "ggf", "inkl", "vgl", "sog",
    "geb", "nr",
];

/// After these a sentence goes on with a number ("No. 7"; but "No. I do not").
const BEFORE_NUMBERS: &[&str] =
    &["no", "nos", "p", "pp", "vol", "fig", "ch", "art", "abb", "bd", "kap", "abs"];

/// A German date goes on after its ordinal ("am 3. Oktober").
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

/// Whether the boundary between `before` and `after` is only the point of an abbreviation, of an
/// initial ("J. Bach", "z. B."; "I" is a word) or of a day.
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

/// Where a clause may end, ascending; the last is the end of `sentence`. Points inside numbers and
/// times ("3,5", "12:30") are none, since only white space after ASCII punctuation makes a boundary.
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
