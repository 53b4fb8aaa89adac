//! The settings with which texts for one model are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Tokenizer;
use super::spans::Languages;

/// Reads texts of one language for a network, and writes them in another; see [`Passage`](super::Passage). Cheap
/// to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) languages: Arc<Languages>,
    pub(super) target: Arc<str>,
    /// Tokens of a source that the network takes, bos and eos included.
    pub(super) limit: usize,
    stop: Option<Arc<AtomicBool>>,
}

/// Tokens rarely have more bytes: a text above the limit times this is cut before it is encoded.
const BYTES_OF_A_TOKEN: usize = 12;

impl Reader {
    /// For languages by their BCP 47 codes, and a network that takes sources of `limit` tokens, bos and eos
    /// included.
    pub fn new(tokenizer: Arc<Tokenizer>, source: &str, target: &str, limit: usize) -> Self {
        let languages = Arc::new(Languages::new(source, target));
        Self { tokenizer, languages, target: target.into(), limit, stop: None }
    }

    /// A reader that gives up when `stop` is set. A passage that it reads then is not whole: drop it.
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(super) fn most_bytes(&self) -> usize {
        self.limit.saturating_mul(BYTES_OF_A_TOKEN)
    }

    pub(super) fn fits_bytes(&self, text: &str) -> bool {
        text.len() <= self.most_bytes()
    }

    /// Tokens of a text, bos and eos included; more than any limit where the tokenizer refuses it.
    pub(super) fn count(&self, text: &str) -> usize {
        self.tokenizer.encode(text).map_or(usize::MAX, |ids| ids.len())
    }
}
