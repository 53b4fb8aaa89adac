//! A whole text on its way through translation: taken apart into sentences that the network can read,
//! and put together again around their translations. Server and command line both go this way, so that
//! they answer alike.

use super::{Piece, Tokenizer, split, split_to_fit};
use crate::Result;

/// A text of any length, read once.
#[derive(Clone, Debug)]
pub struct Document {
    parts: Vec<Part>,
    sentences: Vec<Vec<u32>>,
}

#[derive(Clone, Debug)]
enum Part {
    Gap(String),
    /// The next of the sentences.
    Sentence,
}

impl Document {
    /// Splits at sentences, and sentences of more than `limit` tokens (bos and eos included) at
    /// clauses.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) where a clause alone is above the limit: nothing is
    /// ever cut.
    pub fn read(text: &str, tokenizer: &Tokenizer, limit: usize) -> Result<Self> {
        let mut document = Self { parts: Vec::new(), sentences: Vec::new() };
        for piece in split(text) {
            let Piece::Sentence(sentence) = piece else {
                document.push_gap(piece.text());
                continue;
            };
            let source = tokenizer.encode(sentence)?;
            if source.len() <= limit {
                document.push_sentence(source);
                continue;
            }
            for piece in split_to_fit(sentence, limit, |part| Ok(tokenizer.encode(part)?.len()))? {
                match piece {
                    Piece::Gap(gap) => document.push_gap(gap),
                    Piece::Sentence(clause) => document.push_sentence(tokenizer.encode(clause)?),
                }
            }
        }
        Ok(document)
    }

    /// What is to be translated, in order: `bos x1..xn eos` each. Empty for a text without words.
    pub fn sentences(&self) -> &[Vec<u32>] {
        &self.sentences
    }

    /// The text with each sentence replaced by its translation; white space, line breaks and what had
    /// no words stay as they were. A translation that is missing leaves its place empty.
    pub fn rejoin<S: AsRef<str>>(&self, translations: &[S]) -> String {
        let mut translations = translations.iter().map(AsRef::as_ref);
        let text = |part: &Part| match part {
            Part::Gap(gap) => gap.clone(),
            Part::Sentence => translations.next().unwrap_or_default().to_owned(),
        };
        self.parts.iter().map(text).collect()
    }

    fn push_gap(&mut self, gap: &str) {
        self.parts.push(Part::Gap(gap.to_owned()));
    }

    fn push_sentence(&mut self, source: Vec<u32>) {
        self.parts.push(Part::Sentence);
        self.sentences.push(source);
    }
}

#[cfg(test)]
mod tests;
