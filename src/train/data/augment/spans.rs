//! Spans such as addresses, placeholders and numbers that occur on both sides of a pair. They are protected from
//! other changes and can become reserved tokens, as in translation.

use std::ops::Range;

use super::Sides;
use crate::Result;
use crate::text::spans::{Languages, find, shared};
use crate::text::{Part, Tokenizer};
use crate::train::rng::Rng;

/// A sentence, split at the spans that the other side has, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A span and its number, counted from 0 in the order of the source.
    Span(usize, String),
}

/// Splits both sides of a pair at the spans that they share.
pub fn cut(sides: &Sides<String>, languages: &Languages) -> Sides<Pieces> {
    let pairs = shared(&sides[0], &sides[1], languages);
    let (sources, targets): (Vec<_>, Vec<_>) = pairs.into_iter().map(|(s, t)| (s.range, t.range)).unzip();
    [Pieces::of(&sides[0], sources), Pieces::of(&sides[1], targets)]
}

/// Cuts a single side at all its spans, which are numbered in its order.
pub fn cut_alone(text: &str) -> Pieces {
    Pieces::of(text, find(text).into_iter().map(|span| span.range).collect())
}

/// The number of the first reserved token of a sentence with `spans` spans. Translation always starts at 0. Half of
/// the training sentences start elsewhere, so that all reserved tokens are trained although few sentences have many
/// spans.
pub fn first_token(spans: usize, reserved: usize, rng: &mut Rng) -> usize {
    let elsewhere = rng.uniform() < 0.5;
    let first = rng.below(reserved.saturating_sub(spans) + 1);
    if elsewhere { first } else { 0 }
}

impl Pieces {
    fn of(text: &str, spans: Vec<Range<usize>>) -> Self {
        let mut numbered: Vec<(usize, Range<usize>)> = spans.into_iter().enumerate().collect();
        numbered.sort_by_key(|(_, range)| range.start);
        let (mut pieces, mut at) = (Vec::new(), 0);
        for (number, range) in numbered {
            pieces.push(Piece::Text(text[at..range.start].to_owned()));
            at = range.end;
            pieces.push(Piece::Span(number, text[range].to_owned()));
        }
        pieces.push(Piece::Text(text[at..].to_owned()));
        Self(pieces)
    }

    pub fn spans(&self) -> usize {
        self.0.iter().filter(|piece| matches!(piece, Piece::Span(..))).count()
    }

    /// Changes the text between spans. `change` gets a piece of text, and whether it starts a word.
    pub fn change(&mut self, mut change: impl FnMut(&str, bool) -> String) {
        let mut starts = true;
        for piece in &mut self.0 {
            match piece {
                Piece::Span(..) => starts = false,
                Piece::Text(text) if text.is_empty() => {}
                Piece::Text(text) => {
                    let after = text.ends_with(char::is_whitespace);
                    *text = change(text, starts);
                    starts = after;
                }
            }
        }
    }

    /// Changes the longest piece of text between spans.
    pub fn change_longest(&mut self, change: impl FnOnce(&str) -> String) {
        let texts = self.0.iter_mut().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Span(..) => None,
        });
        if let Some(text) = texts.max_by_key(|text| text.len()) {
            *text = change(text);
        }
    }

    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) | Piece::Span(_, text) => text.as_str(),
            })
            .collect()
    }

    /// `bos x1..xn eos`, with reserved tokens from number `first` on instead of spans.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode_reserved(&self, first: usize, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let parts = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Part::Text(text.as_str()),
            Piece::Span(number, text) => {
                tokenizer.reserved_id(first + number).map_or(Part::Text(text.as_str()), Part::Token)
            }
        });
        let parts: Vec<Part<'_>> = parts.collect();
        tokenizer.encode_parts(&parts)
    }
}
