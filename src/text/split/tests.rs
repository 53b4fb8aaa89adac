use proptest::prelude::*;

use super::*;

fn sentences_of(text: &str) -> Vec<&str> {
    let mut start = 0;
    let sentences =
        sentence_ends(text).into_iter().map(|end| text[std::mem::replace(&mut start, end)..end].trim());
    sentences.collect()
}

#[test]
fn sentences_end_at_points() {
    assert_eq!(sentences_of("One. Two! Three"), ["One.", "Two!", "Three"]);
    assert_eq!(sentences_of("你好。再见。"), ["你好。", "再见。"]);
    assert!(sentence_ends("").is_empty());
}

#[test]
fn abbreviations_initials_and_dates_do_not_end_a_sentence() {
    for whole in [
        "Mr. Smith met Dr. Jones.",
        "We like fruit, e.g. Apples and pears.",
        "Johann S. Bach wrote it.",
        "Wir mögen Obst, z. B. Äpfel und Birnen.",
        "Er kam am 3. Oktober nach Köln.",
        "See No. 7 there.",
        "It costs 3.50 at example.com today.",
    ] {
        assert_eq!(sentences_of(whole), [whole]);
    }
}

#[test]
fn words_that_look_like_abbreviations_still_end_a_sentence() {
    assert_eq!(sentences_of("No. I do not."), ["No.", "I do not."]);
    assert_eq!(sentences_of("It was I. He knew."), ["It was I.", "He knew."]);
    assert_eq!(sentences_of("He is 3. She is 4."), ["He is 3.", "She is 4."]);
}

#[test]
fn clauses_end_at_punctuation_before_white_space() {
    let text = "One two, three; 3,5 at 12:30—four";
    let mut start = 0;
    let clauses: Vec<_> =
        clause_ends(text).map(|end| &text[std::mem::replace(&mut start, end)..end]).collect();
    assert_eq!(clauses, ["One two,", " three;", " 3,5 at 12:30—", "four"]);
}

proptest! {
    #[test]
    fn ends_are_ascending_up_to_the_end(text in any::<String>()) {
        let ends = sentence_ends(&text);
        prop_assert!(ends.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(ends.last().copied().unwrap_or(0), text.len());
    }
}
