//! Parallel text to translate and score.

use std::path::Path;

use crate::text::Tokenizer;
use crate::train::data::corpus::{read_lines, require_equal_counts};
use crate::{Error, Result};

/// Text to translate and what it should become, line by line; the source also as ids.
pub struct TestSet {
    pub sources: Vec<String>,
    pub references: Vec<String>,
    pub(crate) ids: Vec<Vec<u32>>,
}

impl TestSet {
    pub fn new(sources: Vec<String>, references: Vec<String>, tokenizer: &Tokenizer) -> Result<Self> {
        let ids = sources.iter().map(|s| tokenizer.encode(s)).collect::<Result<_>>()?;
        Ok(Self { sources, references, ids })
    }

    /// Reads the first `count` lines of a pair of files.
    pub fn read(source: &Path, target: &Path, count: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut sources, mut references) = (read_lines(source)?, read_lines(target)?);
        require_equal_counts((source, sources.len()), (target, references.len()))?;
        sources.truncate(count);
        references.truncate(count);
        Self::new(sources, references, tokenizer)
    }

    /// As [`TestSet::read`], for a network that takes sentences of up to `limit` tokens, `bos` and `eos`
    /// counted: what it could not be validated with is told before it is trained.
    pub fn read_within(
        source: &Path,
        target: &Path,
        count: usize,
        tokenizer: &Tokenizer,
        limit: usize,
    ) -> Result<Self> {
        let set = Self::read(source, target, count, tokenizer)?;
        let wrong = |line, reason| Err(Error::Data { path: source.to_path_buf(), line, reason });
        match set.ids.iter().enumerate().find(|(_, ids)| ids.len() > limit) {
            _ if set.is_empty() => wrong(1, "the file has no lines to validate with".into()),
            None => Ok(set),
            Some((index, ids)) => {
                let reason =
                    format!("the sentence has {} tokens, the network takes up to {limit}", ids.len());
                wrong(index + 1, reason)
            }
        }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}
