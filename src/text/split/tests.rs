use proptest::prelude::*;

use super::*;

fn sentences_of(text: &str) -> Vec<&str> {
    split(text).into_iter().filter_map(Piece::sentence).collect()
}

/// Tokens are words here.
fn words(text: &str) -> Result<usize> {
    Ok(text.split_whitespace().count())
}

#[test]
fn sentences_end_at_points_and_lines() {
    use Piece::{Gap, Sentence};
    assert_eq!(
        split("  One. Two!\r\n\r\n- Three\n"),
        [
            Gap("  "),
            Sentence("One."),
            Gap(" "),
            Sentence("Two!"),
            Gap("\r"),
            Gap("\n"),
            Gap("\r"),
            Gap("\n"),
            Sentence("- Three"),
            Gap("\n")
        ]
    );
    assert_eq!(sentences_of("你好。再见。"), ["你好。", "再见。"]);
    assert!(split("").is_empty());
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
    assert_eq!(sentences_of("I met the Dr.\nHe left."), ["I met the Dr.", "He left."]);
}

#[test]
fn what_has_no_letter_or_digit_is_left_alone() {
    assert_eq!(split("***"), [Piece::Gap("***")]);
    assert_eq!(sentences_of("--------\nText\n… ?!"), ["Text"]);
}

#[test]
fn a_long_sentence_is_cut_at_clauses_as_late_as_possible() {
    let text = "One two, three four; five six, 3,5 eight.";
    let pieces = split_to_fit(text, 5, words).unwrap();
    let sentences: Vec<_> = pieces.iter().filter_map(|piece| piece.sentence()).collect();
    assert_eq!(sentences, ["One two, three four;", "five six, 3,5 eight."]);
    assert_eq!(split_to_fit(text, 8, words).unwrap(), [Piece::Sentence(text)]);
}

#[test]
fn a_clause_above_the_limit_is_an_error_with_its_size() {
    let refused = split_to_fit("one, two three four five, six", 3, words);
    assert!(matches!(refused, Err(Error::TooLarge { size: 4, limit: 3, .. })), "{refused:?}");
}

#[test]
fn translations_take_the_sentences_places() {
    let pieces = split(" One. Two.\n\n Three ");
    assert_eq!(rejoin(&pieces, &["Eins.", "Zwei.", "Drei"]).unwrap(), " Eins. Zwei.\n\n Drei ");
    assert!(rejoin(&pieces, &["Eins."]).is_err());
}

fn texts() -> impl Strategy<Value = String> {
    let parts =
        "(Mr\\.|Go|z\\. B\\.|3\\.|Mai|ok, ja; nein:|–|[.!?…。]|\r\n|\n|\u{2028}| |\u{a0}|\t|👍|\"|é){0,30}";
    prop_oneof![any::<String>(), parts]
}

proptest! {
    #[test]
    fn the_pieces_are_the_text(text in texts()) {
        let pieces = split(&text);
        let joined: String = pieces.iter().map(|piece| piece.text()).collect();
        prop_assert_eq!(&joined, &text);
        prop_assert_eq!(&rejoin(&pieces, &sentences_of(&text)).unwrap(), &text);
        for sentence in sentences_of(&text) {
            prop_assert_eq!(sentence, sentence.trim());
            prop_assert!(sentence.contains(char::is_alphanumeric) && !sentence.contains(is_line_break));
        }
    }

    #[test]
    fn the_pieces_of_a_long_sentence_are_the_sentence_and_fit(text in texts(), limit in 1usize..6) {
        if let Ok(pieces) = split_to_fit(&text, limit, words) {
            let joined: String = pieces.iter().map(|piece| piece.text()).collect();
            prop_assert_eq!(&joined, &text);
            for sentence in pieces.iter().filter_map(|piece| piece.sentence()) {
                prop_assert!(words(sentence).unwrap() <= limit);
            }
        }
    }
}
