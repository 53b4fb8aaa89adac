//! GPT-2's splitting into words, for ASCII text. The tokenizer's library splits any text by a regular expression and
//! records the origin of each byte. Ids do not need that, and it is slower.
//!
//! The rule, for one match after the other (Radford et al. 2019):
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

const CONTRACTIONS: [&[u8]; 7] = [b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d"];

/// The ASCII characters of `\p{L}`, `\p{N}` and `\s`, and all others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Other,
}

impl Class {
    fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Self::Letter,
            b'0'..=b'9' => Self::Digit,
            b'\t'..=b'\r' | b' ' => Self::Space,
            _ => Self::Other,
        }
    }
}

/// Calls `each` with every word of `text`, which must be ASCII, in order. A word includes the space before it; the
/// first word gets a space if it has none.
///
/// # Errors
/// The first error of `each`.
pub fn each_word<E>(text: &str, mut each: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    debug_assert!(text.is_ascii(), "only ASCII is split here");
    let spaced;
    let text = if text.starts_with(' ') {
        text
    } else {
        spaced = [" ", text].concat();
        &spaced
    };
    let mut rest = text;
    while !rest.is_empty() {
        let (word, others) = rest.split_at(first_word(rest.as_bytes()));
        each(word)?;
        rest = others;
    }
    Ok(())
}

/// The length of the match at the start of `text`, which is not empty.
fn first_word(text: &[u8]) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|contraction| text.starts_with(contraction)) {
        return contraction.len();
    }
    let run = |from: usize, class: Class| text[from..].iter().take_while(|&&b| Class::of(b) == class).count();
    let space = usize::from(text[0] == b' ');
    match text.get(space).map(|&byte| Class::of(byte)) {
        Some(class) if class != Class::Space => space + run(space, class),
        // The last of several white-space characters belongs to the word that follows.
        _ => match run(0, Class::Space) {
            all if all == text.len() => all,
            all => (all - 1).max(1),
        },
    }
}

/// Writes a word to `spelt` as the vocabulary of BPE spells it: a visible character for each byte.
pub fn spell(word: &str, spelt: &mut String) {
    spelt.clear();
    spelt.extend(word.bytes().map(|byte| match byte {
        b'!'..=b'~' => char::from(byte),
        // Invisible bytes have the characters from 256 on: 0 to 32, then 127.
        byte => char::from_u32(256 + u32::from(byte.min(33))).unwrap_or_default(),
    }));
}
