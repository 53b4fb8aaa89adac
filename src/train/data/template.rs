//! Recognizes sentences made from one template, such as "Version 1.2 of {0}." and "version 3.4 of {1}". Corpora of
//! documentation contain thousands of them.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Counts sentences by template.
#[derive(Debug, Default)]
pub struct Templates {
    seen: HashMap<u128, usize>,
}

impl Templates {
    /// Counts `sentence`. Returns how many sentences of its template there are now.
    pub fn count(&mut self, sentence: &str) -> usize {
        let mut hash = [0; 16];
        // SHA-256, since the standard library's hash may change, and with it which pairs are kept.
        hash.copy_from_slice(&Sha256::digest(template(sentence).as_bytes())[..16]);
        let count = self.seen.entry(u128::from_le_bytes(hash)).or_insert(0);
        *count += 1;
        *count
    }
}

/// Letters in lower case, each run of digits as one 0, each run of other characters as one space.
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
