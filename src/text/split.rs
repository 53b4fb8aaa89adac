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

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The sentences of a line, white space included, in order and without loss.
fn sentences(line: &str) -> Vec<&str> {
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in segmenter.segment_str(line).filter(|&end| end > 0) {
        if end == line.len() || !is_false_end(&line[start..end], &line[end..]) {
            sentences.push(&line[start..end]);
            start = end;
        }
    }
    sentences
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
fn clause_ends(sentence: &str) -> impl Iterator<Item = usize> {
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
mod tests {
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
        let parts = "(Mr\\.|Go|z\\. B\\.|3\\.|Mai|ok, ja; nein:|–|[.!?…。]|\r\n|\n|\u{2028}| |\u{a0}|\t|👍|\"|é){0,30}";
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
}
