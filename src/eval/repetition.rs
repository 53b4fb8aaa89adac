//! Measures repeated words, the typical error of parallel decoding, which more steps reduce.

use std::iter::Sum;
use std::ops::Add;

/// Number of tokens (or words) that equal the one before, and of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repetition {
    pub repeated: u64,
    pub total: u64,
}

impl Repetition {
    pub fn of<T: PartialEq>(tokens: &[T]) -> Self {
        let repeated = tokens.windows(2).filter(|pair| pair[0] == pair[1]).count();
        Self { repeated: repeated as u64, total: tokens.len() as u64 }
    }

    /// Counts the words of a text, separated by white space.
    pub fn of_words(text: &str) -> Self {
        Self::of(&text.split_whitespace().collect::<Vec<_>>())
    }

    /// 0 to 1; 0 for an empty text.
    pub fn rate(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.repeated as f64 / self.total as f64 }
    }
}

impl Add for Repetition {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { repeated: self.repeated + other.repeated, total: self.total + other.total }
    }
}

impl Sum for Repetition {
    fn sum<I: Iterator<Item = Self>>(sentences: I) -> Self {
        sentences.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests;
