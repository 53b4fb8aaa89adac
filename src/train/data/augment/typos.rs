//! Typing errors: the nine kinds of OpusTrainer's `Typos`, each with its default probability of 0.1 in an affected
//! sentence. Digits stay unchanged, because a wrong number cannot be recognized.

#![allow(clippy::ptr_arg, reason = "all typos have one type, and some change the length")]

use crate::train::rng::Rng;

/// Probability of each kind in an affected sentence.
const CHANCE: f32 = 0.1;

/// Changes the characters, if there is a suitable position.
type Typo = fn(&mut Vec<char>, &mut Rng);

const TYPOS: [Typo; 9] = [
    char_swap,
    missing_char,
    extra_char,
    nearby_char,
    similar_char,
    skipped_space,
    random_space,
    repeated_char,
    unichar,
];

pub fn add(text: &str, rng: &mut Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for typo in TYPOS {
        if rng.uniform() < CHANCE {
            typo(&mut chars, rng);
        }
    }
    chars.into_iter().collect()
}

/// A random position where `holds` is true.
fn place(chars: &[char], rng: &mut Rng, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..chars.len()).filter(|&at| holds(at)).collect();
    (!places.is_empty()).then(|| places[rng.below(places.len())])
}

fn letter(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(|c| c.is_alphabetic())
}

fn char_swap(chars: &mut Vec<char>, rng: &mut Rng) {
    let two = |at: usize| letter(chars, at) && letter(chars, at + 1);
    if let Some(at) = place(chars, rng, two) {
        chars.swap(at, at + 1);
    }
}

fn missing_char(chars: &mut Vec<char>, rng: &mut Rng) {
    // A word of one letter would disappear.
    let in_word = |at: usize| letter(chars, at) && (letter(chars, at + 1) || at > 0 && letter(chars, at - 1));
    if let Some(at) = place(chars, rng, in_word) {
        chars.remove(at);
    }
}

fn extra_char(chars: &mut Vec<char>, rng: &mut Rng) {
    if let Some(at) = place(chars, rng, |at| key(chars[at]).is_some())
        && let Some(other) = neighbour(chars[at], rng)
    {
        chars.insert(at + 1, other);
    }
}

fn nearby_char(chars: &mut Vec<char>, rng: &mut Rng) {
    if let Some(at) = place(chars, rng, |at| key(chars[at]).is_some())
        && let Some(other) = neighbour(chars[at], rng)
    {
        chars[at] = other;
    }
}

fn similar_char(chars: &mut Vec<char>, rng: &mut Rng) {
    if let Some(at) = place(chars, rng, |at| similar(chars[at]).is_some())
        && let Some(other) = similar(chars[at])
    {
        chars[at] = other;
    }
}

fn skipped_space(chars: &mut Vec<char>, rng: &mut Rng) {
    // Only between letters, so that numbers are not joined.
    let between = |at: usize| chars[at] == ' ' && at > 0 && letter(chars, at - 1) && letter(chars, at + 1);
    if let Some(at) = place(chars, rng, between) {
        chars.remove(at);
    }
}

fn random_space(chars: &mut Vec<char>, rng: &mut Rng) {
    let between = |at: usize| at > 0 && letter(chars, at - 1) && letter(chars, at);
    if let Some(at) = place(chars, rng, between) {
        chars.insert(at, ' ');
    }
}

fn repeated_char(chars: &mut Vec<char>, rng: &mut Rng) {
    if let Some(at) = place(chars, rng, |at| letter(chars, at)) {
        chars.insert(at, chars[at]);
    }
}

fn unichar(chars: &mut Vec<char>, rng: &mut Rng) {
    let double = |at: usize| letter(chars, at) && chars.get(at + 1) == Some(&chars[at]);
    if let Some(at) = place(chars, rng, double) {
        chars.remove(at);
    }
}

const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Row and column of a letter's key on a QWERTY keyboard.
fn key(letter: char) -> Option<(usize, usize)> {
    let lower = letter.to_ascii_lowercase();
    ROWS.iter().enumerate().find_map(|(row, keys)| keys.find(lower).map(|column| (row, column)))
}

/// A letter whose key is adjacent, in the same case.
fn neighbour(letter: char, rng: &mut Rng) -> Option<char> {
    let (row, column) = key(letter)?;
    // Each row is half a key to the right of the one above.
    let touches = |(r, c): (usize, usize)| match r as isize - row as isize {
        0 => c.abs_diff(column) == 1,
        1 => c == column || c + 1 == column,
        -1 => c == column || c == column + 1,
        _ => false,
    };
    let others: Vec<char> =
        ROWS.iter().flat_map(|keys| keys.chars()).filter(|&c| key(c).is_some_and(touches)).collect();
    let other = others.get(rng.below(others.len())).copied()?;
    Some(if letter.is_ascii_uppercase() { other.to_ascii_uppercase() } else { other })
}

/// A character that looks similar.
fn similar(c: char) -> Option<char> {
    const ALIKE: [(char, char); 14] = [
        ('o', '0'),
        ('O', '0'),
        ('l', '1'),
        ('i', 'l'),
        ('I', 'l'),
        ('e', '3'),
        ('a', 'à'),
        ('s', '5'),
        ('S', '5'),
        ('B', '8'),
        ('g', '9'),
        ('u', 'v'),
        ('n', 'm'),
        ('c', 'ç'),
    ];
    ALIKE.iter().find(|(from, _)| *from == c).map(|&(_, to)| to)
}

#[cfg(test)]
mod tests;
