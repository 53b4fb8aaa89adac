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
