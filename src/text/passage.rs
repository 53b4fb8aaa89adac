//! A whole text and its translation. The server, `tutti translate`, evaluation, validation, reports and distillation
//! all translate with it.
//!
//! ```text
//! document → lines → (head, body, tail) → sentences → spans out → case → parts that fit → tokens → network → …
//! ```
//!
//! A passage has requests ([`Passage::requests`]) until its translation is complete. A sentence whose translation lacks
//! a span or is too short is requested again with more effort, and finally in pieces.

use std::borrow::Cow;
use std::ops::Range;

use super::atom::{Atom, Spacing, SpanAtom};
use super::fit::{Fitted, fit};
use super::layout::Layout;
use super::peel::{Peeled, peel};
use super::reader::Reader;
use super::request::{Candidate, Request, Warning};
use super::spans::{self, Kind, Span, localise};
use super::split::{is_line_break, sentence_ends};
use super::unit::Unit;
use super::wrapped;
use crate::Result;

/// Options for reading a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether a sentence may continue in the next line. If not, each line is translated separately.
    pub join_lines: bool,
}

/// A span that the caller protects: a tag, or a term of a glossary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenSpan<'a> {
    pub span: Span,
    /// The text of the span in the translation.
    pub replacement: &'a str,
}

/// A text of any length, read once.
#[derive(Debug)]
pub struct Passage {
    reader: Reader,
    parts: Vec<Fitted>,
    /// Number of answered requests.
    answered: usize,
    /// Parts with open requests, and how many each has.
    waiting: Vec<(usize, usize)>,
}

impl Reader {
    /// Reads a text, with the spans that [`spans::find`] finds in it.
    pub fn read(&self, text: &str) -> Passage {
        self.read_with(text, &[], ReadOptions::default())
    }

    /// Reads a text with further spans of the caller. The translation contains the replacement of each span once. Spans
    /// must be ascending and disjoint, at character boundaries; others are ignored. Spans of
    /// [`Kind::Markup`](spans::Kind) keep their order.
    pub fn read_with(&self, text: &str, given: &[GivenSpan<'_>], options: ReadOptions) -> Passage {
        let mut end = 0;
        let valid = |given: &&GivenSpan<'_>| {
            let range = &given.span.range;
            let valid = range.start >= end && text.get(range.clone()).is_some_and(|t| !t.is_empty());
            end = if valid { range.end } else { end };
            valid
        };
        let given: Vec<GivenSpan<'_>> = given.iter().filter(valid).cloned().collect();
        let joined = options.join_lines.then(|| wrapped::join(text, |at| is_free(&given, at)));
        let mut builder = Builder { reader: self, given: &given, parts: Vec::new() };
        builder.text(joined.as_deref().unwrap_or(text));
        Passage { reader: self.clone(), parts: builder.parts, answered: 0, waiting: Vec::new() }
    }
}

struct Builder<'a> {
    reader: &'a Reader,
    given: &'a [GivenSpan<'a>],
    parts: Vec<Fitted>,
}

impl<'a> Builder<'a> {
    fn text(&mut self, text: &str) {
        let mut in_code = false;
        let mut start = 0;
        let ends: Vec<(usize, usize)> = text
            .char_indices()
            .filter(|&(at, c)| (is_line_break(c) || c == '\t') && is_free(self.given, at))
            .map(|(at, c)| (at, at + c.len_utf8()))
            .chain([(text.len(), text.len())])
            .collect();
        for (end, next) in ends {
            if self.reader.is_stopped() {
                return;
            }
            let line = &text[start..end];
            // Code with its closing marks in one line is not a fence, as in CommonMark.
            let fence = line.trim_start().strip_prefix("```");
            let fence = fence.is_some_and(|info| !info.trim_start_matches('`').contains('`'));
            if in_code || fence {
                self.gap(line);
                in_code ^= fence;
            } else {
                self.line(line, start);
            }
            self.gap(&text[end..next]);
            start = next;
        }
    }

    /// Adds a line, or one of its cells; `offset` is its position in the text.
    fn line(&mut self, line: &str, offset: usize) {
        if line.starts_with('|') && line.len() > 1 {
            // A bar inside a span, such as code, does not end a cell. A bar alone is a span, too: a symbol.
            let spans = self.spans(line, offset);
            let ends_cell = |&at: &usize| {
                let next = spans.partition_point(|(span, _)| span.range.end <= at);
                spans.get(next).is_none_or(|(span, _)| span.range.start > at || span.kind == Kind::Symbol)
            };
            let bars: Vec<usize> = line.match_indices('|').map(|(at, _)| at).filter(ends_cell).collect();
            let mut start = 0;
            for bar in bars {
                self.body(&line[start..bar], offset + start);
                self.gap("|");
                start = bar + 1;
            }
            self.body(&line[start..], offset + start);
            return;
        }
        self.body(line, offset);
    }

    fn body(&mut self, line: &str, offset: usize) {
        let Layout { head, body, tail } = Layout::of(line);
        let touched = |from: usize, to: usize| {
            let next = self.given.partition_point(|given| given.span.range.end <= offset + from);
            self.given.get(next).is_some_and(|given| given.span.range.start < offset + to)
        };
        let mut spans = self.spans(line, offset);
        let edges = [head.len(), head.len() + body.len()];
        let cut =
            |(span, _): &(Span, _)| edges.iter().any(|&at| span.range.start < at && at < span.range.end);
        // The whole line is the body if a span of the caller is outside the body, or a span crosses its edge.
        let whole = spans.iter().any(cut) || touched(0, edges[0]) || touched(edges[1], line.len());
        let (head, body, tail) = if whole { ("", line, "") } else { (head, body, tail) };
        self.gap(head);
        let within = head.len()..head.len() + body.len();
        spans.retain(|(span, _)| within.start <= span.range.start && span.range.end <= within.end);
        for (span, _) in &mut spans {
            span.range = span.range.start - within.start..span.range.end - within.start;
        }
        let inside = |at: usize| {
            let next = spans.partition_point(|(span, _)| span.range.end <= at);
            spans.get(next).is_some_and(|(span, _)| span.range.start < at)
        };
        let mut start = 0;
        for end in sentence_ends(body).into_iter().filter(|&end| !inside(end)).collect::<Vec<_>>() {
            self.sentence(body, start, end, &spans);
            start = end;
        }
        self.gap(tail);
    }

    /// The caller's spans with their replacements, and the spans found between them.
    fn spans(&self, body: &str, offset: usize) -> Vec<(Span, Option<&'a str>)> {
        let place = |range: &Range<usize>| {
            let inside = range.start >= offset && range.end <= offset + body.len();
            inside.then(|| range.start - offset..range.end - offset)
        };
        let first = self.given.partition_point(|given| given.span.range.start < offset);
        let given = self.given[first..].iter().map_while(|given| {
            let range = place(&given.span.range)?;
            Some((Span { range, kind: given.span.kind }, Some(given.replacement)))
        });
        let mut all: Vec<(Span, Option<&'a str>)> = given.collect();
        // Text for a vocabulary of pieces is prepared by other programs and may contain their entities.
        if !self.reader.tokenizer.spells_everything() {
            return all;
        }
        let given = all.len();
        for span in spans::find(body) {
            let next = all[..given].partition_point(|(other, _)| other.range.end <= span.range.start);
            if all[..given].get(next).is_none_or(|(other, _)| span.range.end <= other.range.start) {
                all.push((span, None));
            }
        }
        all.sort_by_key(|(span, _)| span.range.start);
        all
    }

    fn sentence(&mut self, body: &str, start: usize, end: usize, spans: &[(Span, Option<&str>)]) {
        let text = &body[start..end];
        let first = start + (text.len() - text.trim_start().len());
        let last = (start + text.trim_end().len()).max(first);
        self.gap(&body[start..first]);
        let mut atoms = Vec::new();
        let mut at = first;
        let white = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let own = &spans[spans.partition_point(|(span, _)| span.range.start < first)..];
        for (span, replacement) in own.iter().take_while(|(span, _)| span.range.end <= last) {
            let range = span.range.clone();
            if at < range.start {
                atoms.push(Atom::Text(body[at..range.start].to_owned()));
            }
            let text = &body[range.clone()];
            let replacement = match replacement {
                Some(replacement) => Cow::Borrowed(*replacement),
                None => localise(text, span.kind, &self.reader.languages),
            };
            atoms.push(Atom::Span(SpanAtom {
                text: text.to_owned(),
                replacement: replacement.into_owned(),
                kind: span.kind,
                spacing: Spacing {
                    before: white(body[..range.start].chars().next_back()),
                    after: white(body[range.end..].chars().next()),
                    word_follows: body[range.end..].starts_with(char::is_alphanumeric),
                },
            }));
            at = range.end;
        }
        if at < last {
            atoms.push(Atom::Text(body[at..last].to_owned()));
        }
        let in_pieces = self.reader.tokenizer.reserved() == 0;
        let Peeled { before, atoms, after } = peel(atoms, in_pieces);
        self.gap(&before);
        if !atoms.is_empty() {
            fit(atoms, self.reader, &mut self.parts);
        }
        self.gap(&after);
        self.gap(&body[last..end]);
    }

    fn gap(&mut self, gap: &str) {
        if !gap.is_empty() {
            self.parts.push(Fitted::Gap(gap.to_owned()));
        }
    }
}

/// Whether no span of the caller covers position `at`.
fn is_free(given: &[GivenSpan<'_>], at: usize) -> bool {
    let next = given.partition_point(|given| given.span.range.end <= at);
    given.get(next).is_none_or(|given| given.span.range.start > at)
}

impl Passage {
    /// The sources to translate next, in order; empty once the translation is complete. Call it again only after
    /// [`answer`](Self::answer).
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) if the tokenizer's library fails.
    pub fn requests(&mut self) -> Result<Vec<Request>> {
        let mut all = Vec::new();
        self.waiting.clear();
        for (i, part) in self.parts.iter().enumerate() {
            let Fitted::Unit(unit) = part else { continue };
            if unit.is_done() || self.reader.is_stopped() {
                continue;
            }
            let requests = unit.requests(&self.reader)?;
            self.waiting.push((i, requests.len()));
            all.extend(requests);
        }
        Ok(all)
    }

    /// Takes the candidates for each of the last [`requests`](Self::requests), in order, best first. A missing answer
    /// counts as one without candidates.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for ids outside the vocabulary.
    pub fn answer(&mut self, answers: Vec<Vec<Candidate>>) -> Result<()> {
        let mut answers = answers.into_iter();
        for (place, count) in std::mem::take(&mut self.waiting) {
            let own: Vec<(usize, Vec<Candidate>)> =
                (self.answered..).zip(answers.by_ref().take(count)).collect();
            self.answered += count;
            if let Some(Fitted::Unit(unit)) = self.parts.get_mut(place) {
                unit.answer(own, &self.reader)?;
            }
        }
        Ok(())
    }

    /// The translation. White space, line breaks and parts without words are those of the source.
    pub fn text(&self) -> String {
        self.ranked(0)
    }

    /// Up to `count` further translations, which differ from the best one and from each other.
    pub fn alternatives(&self, count: usize) -> Vec<String> {
        let best = self.text();
        let ranks = self.units().map(|unit| unit.translations.len()).max().unwrap_or(0);
        let mut others: Vec<String> = Vec::new();
        for rank in 1..ranks {
            let other = self.ranked(rank);
            if others.len() < count && other != best && !others.contains(&other) {
                others.push(other);
            }
        }
        others
    }

    /// Warnings about the translation, each once.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut all: Vec<Warning> = self.units().flat_map(|unit| unit.warnings.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The requests whose answers are part of the translation, by their numbers in the order of the requests.
    pub fn used(&self) -> Vec<usize> {
        self.units().flat_map(|unit| unit.used.iter().copied()).collect()
    }

    /// Number of sentences that were requested a second time.
    pub fn retried(&self) -> usize {
        self.units().filter(|unit| unit.retried).count()
    }

    fn units(&self) -> impl Iterator<Item = &Unit> {
        self.parts.iter().filter_map(|part| match part {
            Fitted::Unit(unit) => Some(unit),
            Fitted::Gap(_) => None,
        })
    }

    fn ranked(&self, rank: usize) -> String {
        let text = |part: &Fitted| match part {
            Fitted::Gap(gap) => gap.clone(),
            Fitted::Unit(unit) => {
                let last = unit.translations.len().saturating_sub(1);
                unit.translations.get(rank.min(last)).cloned().unwrap_or_default()
            }
        };
        let text: String = self.parts.iter().map(text).collect();
        if text.contains(char::REPLACEMENT_CHARACTER) {
            text.replace(char::REPLACEMENT_CHARACTER, "")
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests;
