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
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let lines = ["one, two, three, four, five", "Where is it? It is here.", "eins, zwei, drei"];
        Tokenizer::train(lines.iter(), 288).expect("the corpus is big enough")
    });

    fn words_of(document: &Document) -> Vec<String> {
        document.sentences().iter().map(|ids| TOKENIZER.decode(ids).unwrap()).collect()
    }

    #[test]
    fn sentences_are_replaced_and_everything_else_stays() {
        let text = "  Where is it?  It is here.\r\n\n---\n* Yes\t";
        let document = Document::read(text, &TOKENIZER, 64).unwrap();
        assert_eq!(document.rejoin(&["A", "B", "C"]), "  A  B\r\n\n---\nC\t");
    }

    #[test]
    fn a_text_without_words_has_nothing_to_translate_and_comes_back() {
        for text in ["", " ", "\n\n", "…", " - ! \n ?"] {
            let document = Document::read(text, &TOKENIZER, 64).unwrap();
            assert!(document.sentences().is_empty());
            assert_eq!(document.rejoin::<&str>(&[]), text);
        }
    }

    #[test]
    fn a_sentence_above_the_limit_is_taken_apart_at_clauses() {
        let text = "one, two, three, four, five";
        let whole = TOKENIZER.encode(text).unwrap().len();
        let document = Document::read(text, &TOKENIZER, whole - 1).unwrap();
        assert!(document.sentences().len() > 1);
        assert!(document.sentences().iter().all(|source| source.len() < whole));
        assert_eq!(document.rejoin(&words_of(&document)), text);
    }

    #[test]
    fn a_clause_above_the_limit_is_refused_with_the_limit() {
        let refused = Document::read(&"abc".repeat(50), &TOKENIZER, 20).unwrap_err();
        assert!(matches!(refused, Error::TooLarge { limit: 20, .. }), "{refused}");
    }

    proptest! {
        #[test]
        fn untranslated_sentences_give_the_text_back(text in "[a-eA-E .,!?\n\t]{0,80}") {
            let document = Document::read(&text, &TOKENIZER, 16);
            if let Ok(document) = document {
                prop_assert_eq!(document.rejoin(&words_of(&document)), text);
            }
        }
    }
}
