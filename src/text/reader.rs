//! The settings for reading the texts of one model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Tokenizer;
use super::spans::Languages;

/// Reads texts in one language for a network that translates them to another; see [`Passage`](super::Passage). Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) languages: Arc<Languages>,
    pub(super) target: Arc<str>,
    /// Largest number of tokens of a source, bos and eos included.
    pub(super) limit: usize,
    stop: Option<Arc<AtomicBool>>,
}

/// Tokens rarely have more bytes. A text of more bytes than the limit times this is cut before it is encoded.
const BYTES_OF_A_TOKEN: usize = 12;

impl Reader {
    /// A reader for languages by their BCP 47 codes, and for a network that takes sources of up to `limit` tokens, bos
    /// and eos included.
    pub fn new(tokenizer: Arc<Tokenizer>, source: &str, target: &str, limit: usize) -> Self {
        let languages = Arc::new(Languages::new(source, target));
        Self { tokenizer, languages, target: target.into(), limit, stop: None }
    }

    /// A reader that stops when `stop` is set. A passage that it reads then is incomplete: drop it.
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.limit.saturating_mul(BYTES_OF_A_TOKEN)
    }

    pub(super) fn fits_bytes(&self, text: &str) -> bool {
        text.len() <= self.max_bytes()
    }

    /// Number of tokens of a text, bos and eos included; `usize::MAX` if the tokenizer fails.
    pub(super) fn count(&self, text: &str) -> usize {
        self.tokenizer.encode(text).map_or(usize::MAX, |ids| ids.len())
    }
}
