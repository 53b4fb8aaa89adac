//! Turns tokens of the network into a sentence that has every span once, and the case and typography of the source.

use super::atom::{Atom, SpanAtom, texts};
use super::case::Case;
use super::characters::{Typography, is_invisible};
use super::reader::Reader;
use super::request::{Candidate, Warning};
use super::spans::Kind;
use super::tokenizer::DecodedPart;
use crate::Result;

#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// Whether the source has reserved tokens for its spans; otherwise it has their text.
    pub reserved: bool,
    /// Number of tokens of the source, without spans.
    pub source: usize,
    pub case: Case,
    pub typography: Typography,
}

#[derive(Debug, Default)]
pub(super) struct Checked {
    /// `None` if a span is lost, doubled or changed.
    pub text: Option<String>,
    /// Whether the text ends with a span.
    pub ends_in_span: bool,
    /// Whether no incomplete characters were left out.
    pub whole: bool,
    pub warning: Option<Warning>,
}

/// Turns a candidate into a sentence, and checks it.
pub(super) fn check(atoms: &[Atom], candidate: &Candidate, check: Check, reader: &Reader) -> Result<Checked> {
    let (parts, whole) = reader.tokenizer.decode_parts(&candidate.tokens)?;
    let spans: Vec<&SpanAtom> = atoms
        .iter()
        .filter_map(|atom| match atom {
            Atom::Span(span) => Some(span),
            Atom::Text(_) => None,
        })
        .collect();
    let parts =
        if check.reserved || spans.is_empty() { Some(parts) } else { locate_spans(parts, atoms, &spans) };
    let Some(parts) = parts.filter(|parts| has_each_once(parts, &spans)) else {
        return Ok(Checked::default());
    };
    let text = joined(&parts, &spans, check, &reader.target);
    let ends_in_span = ends_in_span(&parts);
    let reserved = if check.reserved { spans.len() } else { 0 };
    let warning = implausible(check.source, candidate.tokens.len().saturating_sub(reserved));
    if text.trim().is_empty() {
        return Ok(Checked { text: None, ends_in_span, whole, warning });
    }
    Ok(Checked { text: Some(text), ends_in_span, whole, warning })
}

/// The text of a candidate without spans, and whether all its characters are complete.
pub(super) fn words(candidate: &Candidate, reader: &Reader) -> Result<(String, bool)> {
    let (parts, whole) = reader.tokenizer.decode_parts(&candidate.tokens)?;
    let text = parts.into_iter().filter_map(|part| match part {
        DecodedPart::Text(text) => Some(visible(&text)),
        DecodedPart::Reserved(_) => None,
    });
    Ok((text.collect::<String>().trim().to_owned(), whole))
}

/// A translation with less than half of its source's tokens probably lacks something, one with more than twice as many
/// probably repeats itself. Both languages share one vocabulary, so this holds for most pairs.
fn implausible(source: usize, target: usize) -> Option<Warning> {
    if source >= 8 && 2 * target + 2 < source {
        Some(Warning::Short)
    } else if target > 2 * source + 8 {
        Some(Warning::Long)
    } else {
        None
    }
}

/// Whether every span occurs once, and markup is in the order of the source.
fn has_each_once(parts: &[DecodedPart], spans: &[&SpanAtom]) -> bool {
    let mut seen = vec![false; spans.len()];
    let mut last_markup = None;
    for part in parts {
        let DecodedPart::Reserved(index) = *part else { continue };
        match seen.get_mut(index) {
            Some(seen) if !*seen => *seen = true,
            _ => return false,
        }
        if spans[index].kind == Kind::Markup {
            if last_markup.is_some_and(|last| last > index) {
                return false;
            }
            last_markup = Some(index);
        }
    }
    seen.into_iter().all(|seen| seen)
}

/// Finds spans that the source contains as text, not as reserved tokens: numbers. `None` if one is missing, or if there
/// are more other numbers than in the source.
fn locate_spans(parts: Vec<DecodedPart>, atoms: &[Atom], spans: &[&SpanAtom]) -> Option<Vec<DecodedPart>> {
    let mut text: String = parts
        .into_iter()
        .map(|part| match part {
            DecodedPart::Text(text) => text,
            DecodedPart::Reserved(_) => String::new(),
        })
        .collect();
    let numbers: usize = texts(atoms).map(digit_runs).sum();
    let mut places: Vec<(usize, usize, usize)> = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let free = |start: usize, end: usize| places.iter().all(|&(from, to, _)| end <= from || start >= to);
        let forms = [span.text.as_str(), span.replacement.as_str()];
        let place = forms.iter().find_map(|form| {
            let mut starts = text.match_indices(form).map(|(at, _)| (at, at + form.len()));
            starts.find(|&(start, end)| free(start, end) && stands_alone(&text, start, end))
        });
        let (start, end) = place?;
        places.push((start, end, index));
    }
    places.sort_unstable();
    let mut found = Vec::new();
    let mut rest = 0;
    for (start, end, index) in places {
        found.push(DecodedPart::Text(text[rest..start].to_owned()));
        found.push(DecodedPart::Reserved(index));
        rest = end;
    }
    found.push(DecodedPart::Text(text.split_off(rest)));
    let others: usize = found
        .iter()
        .map(|part| match part {
            DecodedPart::Text(text) => digit_runs(text),
            DecodedPart::Reserved(_) => 0,
        })
        .sum();
    (others <= numbers).then_some(found)
}

fn digit_runs(text: &str) -> usize {
    text.split(|c: char| !c.is_numeric()).filter(|run| !run.is_empty()).count()
}

/// Whether no digit or letter is next to a number.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let mut after = text[end..].chars();
    let next = after.next();
    let continues = matches!(next, Some('.' | ',' | ':')) && after.next().is_some_and(char::is_numeric);
    !before.is_some_and(char::is_alphanumeric) && !next.is_some_and(char::is_alphanumeric) && !continues
}

fn ends_in_span(parts: &[DecodedPart]) -> bool {
    let mut visible_parts = parts.iter().rev().filter(|part| match part {
        DecodedPart::Text(text) => !text.trim().is_empty(),
        DecodedPart::Reserved(_) => true,
    });
    matches!(visible_parts.next(), Some(DecodedPart::Reserved(_)))
}

/// Joins the parts: text gets the case and typography of the source, spans their replacements.
fn joined(parts: &[DecodedPart], spans: &[&SpanAtom], check: Check, language: &str) -> String {
    let mut out = String::new();
    let mut opened = false;
    let mut last_span: Option<&SpanAtom> = None;
    for part in parts {
        match part {
            DecodedPart::Reserved(index) => {
                let Some(span) = spans.get(*index) else { continue };
                if span.kind == Kind::Markup && !span.spacing.before {
                    out.truncate(out.trim_end().len());
                }
                let after_bracket = out.ends_with(['(', '[', '{', '„', '“', '/']);
                if span.spacing.before
                    && !out.is_empty()
                    && !out.ends_with(char::is_whitespace)
                    && !after_bracket
                {
                    out.push(' ');
                }
                out.push_str(&span.replacement);
                last_span = Some(span);
            }
            DecodedPart::Text(text) => {
                let text = check.case.restored(visible(text));
                let text = check.typography.apply(text, language, &mut opened);
                let mut text = text.as_str();
                if let Some(span) = last_span.take() {
                    if span.kind == Kind::Markup && !span.spacing.after {
                        // A tag before punctuation may come before a word in the translation: its space stays.
                        let rest = text.trim_start();
                        let keeps = !span.spacing.word_follows && rest.starts_with(char::is_alphanumeric);
                        text = if keeps { text } else { rest };
                    } else if span.spacing.after && text.starts_with(char::is_alphanumeric) {
                        out.push(' ');
                    }
                }
                out.push_str(text);
            }
        }
    }
    let trimmed = out.trim();
    if trimmed.len() == out.len() { out } else { trimmed.to_owned() }
}

/// The text without controls and line breaks, which a network may write.
fn visible(text: &str) -> String {
    let plain = |c: char| if c.is_whitespace() { Some(' ') } else { Some(c).filter(|&c| !is_invisible(c)) };
    text.chars().filter_map(plain).collect()
}

/// The final punctuation mark of a sentence, before any closing quotation mark or bracket.
pub(super) fn final_mark(atoms: &[Atom]) -> Option<char> {
    let Some(Atom::Text(text)) = atoms.last() else { return None };
    let core = text.trim_end_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '“' | '»')
    });
    core.chars().next_back().filter(|c| matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？'))
}

/// Adds the final mark of the source if the sentence has none, and removes its mark if the source has none.
pub(super) fn with_final_mark(mut text: String, mark: Option<char>) -> String {
    match mark {
        Some(mark) => {
            if text.ends_with(char::is_alphanumeric) {
                text.push(mark);
            }
        }
        None => {
            while let Some(rest) = text.strip_suffix(['.', '!', '?', '。']) {
                // A point after a number is that of an ordinal.
                if rest.is_empty() || rest.ends_with(char::is_numeric) {
                    break;
                }
                text.truncate(rest.len());
            }
        }
    }
    text
}
