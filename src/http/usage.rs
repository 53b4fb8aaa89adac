//! Counts translated characters, for DeepL's `/v2/usage`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Characters of the texts that were translated since the start.
#[derive(Debug, Default)]
pub struct Usage(AtomicU64);

impl Usage {
    pub fn add(&self, characters: usize) {
        self.0.fetch_add(characters as u64, Ordering::Relaxed);
    }

    pub fn characters(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
