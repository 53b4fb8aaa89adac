//! Capitals. A text in capitals is translated as ordinary text, and its translation is put in capitals. A title, whose
//! words all start with a capital, is translated as a phrase.

use super::Tokenizer;

/// The capitals of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Ordinary,
    Capitals,
    Title,
}

/// Words without a capital in a title.
const SMALL: [&str; 18] = [
    "a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "up", "via",
    "with", "your",
];

/// Largest number of letters of an acronym within a text in capitals.
const MAX_ACRONYM_LETTERS: usize = 4;

/// Largest length of an acronym or error code that is a text of its own. Longer words are not encoded to find out.
const MAX_ACRONYM_BYTES: usize = 64;

impl Case {
    pub fn of(text: &str) -> Self {
        let mut letters = text.chars().filter(|c| c.is_alphabetic());
        let (mut upper, mut lower) = (0, 0);
        letters.by_ref().for_each(|c| match c {
            c if c.is_uppercase() => upper += 1,
            c if c.is_lowercase() => lower += 1,
            _ => {}
        });
        if upper >= 2 && lower == 0 {
            return Self::Capitals;
        }
        let mut words =
            text.split(|c: char| c.is_whitespace()).filter(|word| word.contains(char::is_alphabetic));
        let mut titles = 0;
        let title = words.all(|word| {
            let first = word.chars().find(|c| c.is_alphabetic());
            let capital = first.is_some_and(char::is_uppercase);
            titles += usize::from(capital && word.chars().filter(|c| c.is_lowercase()).count() > 1);
            capital || SMALL.contains(&word)
        });
        if title && titles >= 2 && !text.ends_with(['.', '!', '?']) { Self::Title } else { Self::Ordinary }
    }

    /// The text in the case that the network was trained on. `first` says whether it starts a sentence.
    pub fn lowered(self, text: &str, first: bool, tokenizer: &Tokenizer) -> String {
        match self {
            Self::Ordinary => text.to_owned(),
            Self::Capitals => {
                let lower = |word: &str| {
                    let lower = word.to_lowercase();
                    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
                    let acronym =
                        (2..=MAX_ACRONYM_LETTERS).contains(&letters) && tokens(&lower, tokenizer) > 1;
                    if acronym { word.to_owned() } else { lower }
                };
                let text = each_word(text, lower);
                if first { capitalised(&text) } else { text }
            }
            Self::Title => {
                let mut first = first;
                each_word(text, |word| {
                    let lower = word.to_lowercase();
                    // A name has fewer tokens with a capital.
                    let name = tokens(&lower, tokenizer) > tokens(word, tokenizer);
                    let acronym = word.chars().skip(1).any(char::is_uppercase);
                    let has_letters = word.contains(char::is_alphabetic);
                    let starts = first && has_letters;
                    first &= !has_letters;
                    let keep = starts || name || acronym || word == "I";
                    if keep { word.to_owned() } else { lower }
                })
            }
        }
    }

    /// A translation in the case of its source.
    pub fn restored(self, text: String) -> String {
        match self {
            // `to_uppercase` makes SS of ß, which is more common in print than ẞ.
            Self::Capitals => text.to_uppercase(),
            Self::Ordinary | Self::Title => text,
        }
    }
}

/// Whether a text is a single word in capitals that is not an ordinary word: an acronym or an error code.
pub fn is_acronym(text: &str, tokenizer: &Tokenizer) -> bool {
    let word = (2..=MAX_ACRONYM_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase());
    word && (text == "OK" || tokens(&text.to_lowercase(), tokenizer) > 1)
}

/// The translation of an inner part of a sentence, with a small first letter if that is the more common form of its
/// first word. The network translates parts as if they were sentences.
pub fn as_inner_part(text: String, tokenizer: &Tokenizer) -> String {
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let word = &text[..end];
    let mut letters = word.chars();
    if !letters.next().is_some_and(char::is_uppercase) || letters.any(char::is_uppercase) {
        return text;
    }
    let lower = word.to_lowercase();
    // Frequent merges come first, and so have lower ids.
    let cost = |word: &str| tokenizer.encode(word).map(|ids| (ids.len(), ids.get(1).copied().unwrap_or(0)));
    match (cost(&lower), cost(word)) {
        (Ok(small), Ok(capital)) if small < capital => lower + &text[end..],
        _ => text,
    }
}

fn capitalised(text: &str) -> String {
    let Some(at) = text.find(char::is_alphabetic) else { return text.to_owned() };
    let (before, rest) = text.split_at(at);
    let mut letters = rest.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    [before, &first, letters.as_str()].concat()
}

fn each_word(text: &str, mut change: impl FnMut(&str) -> String) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words.map(|word| change(word.trim_end()) + &word[word.trim_end().len()..]).collect()
}

/// Number of tokens of a text, without bos and eos.
fn tokens(text: &str, tokenizer: &Tokenizer) -> usize {
    tokenizer.encode(text).map_or(0, |ids| ids.len().saturating_sub(2))
}
