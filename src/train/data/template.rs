//! Sentences that are made after one template: "Version 1.2 of {0}." and "version 3.4 of {1}". A corpus of
//! documentation has thousands of some.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Counts sentences by template.
#[derive(Debug, Default)]
pub struct Templates {
    seen: HashMap<u128, usize>,
}

impl Templates {
    /// How many of `sentence`'s template there are now, itself included.
    pub fn count(&mut self, sentence: &str) -> usize {
        let mut hash = [0; 16];
        // Part of a SHA-256, since which pairs are kept must not change with the standard library's hash.
        hash.copy_from_slice(&Sha256::digest(template(sentence).as_bytes())[..16]);
        let count = self.seen.entry(u128::from_le_bytes(hash)).or_insert(0);
        *count += 1;
        *count
    }
}

/// The letters in lower case, each run of digits as one 0, each run of anything else as one space.
fn template(sentence: &str) -> String {
    let mut template = String::with_capacity(sentence.len());
    for c in sentence.chars().flat_map(char::to_lowercase) {
        let kind = match c {
            c if c.is_alphabetic() => c,
            c if c.is_numeric() => '0',
            _ => ' ',
        };
        if kind.is_alphabetic() || !template.ends_with(kind) {
            template.push(kind);
        }
    }
    template.trim().to_owned()
}

#[cfg(test)]
mod tests;
