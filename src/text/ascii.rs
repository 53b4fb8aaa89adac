//! GPT-2's splitting into words, for text in ASCII. The tokenizer's library does it for any text with a regular expression
//! and records where every byte came from. Ids do not need that, and it is slower.
//!
//! The rule, one match after the other (Radford et al. 2019):
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

const CONTRACTIONS: [&[u8]; 7] = [b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d"];

/// What `\p{L}`, `\p{N}`, `\s` and the rest are in ASCII.
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

/// Calls `each` with every word of `text`, which must be ASCII, in order; a word keeps the space before
/// it. The first one gets a space if it has none.
///
/// # Errors
/// The first that `each` answers with.
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
        // White space leaves its last character to the word that follows, if it has another one.
        _ => match run(0, Class::Space) {
            all if all == text.len() => all,
            all => (all - 1).max(1),
        },
    }
}

/// A word as BPE's vocabulary spells it: a visible character for each byte.
pub fn spell(word: &str, spelt: &mut String) {
    spelt.clear();
    spelt.extend(word.bytes().map(|byte| match byte {
        b'!'..=b'~' => char::from(byte),
        // The bytes that cannot be seen are numbered from 256 on: 0 to 32, then 127.
        byte => char::from_u32(256 + u32::from(byte.min(33))).unwrap_or_default(),
    }));
}
