//! Parallel text to translate and score.

use std::path::Path;
use std::sync::Arc;

use crate::text::{Reader, Tokenizer};
use crate::train::data::corpus::{read_lines, require_equal_counts};
use crate::{Error, Result};

/// Sources and references, line by line. The sources also as ids.
pub struct TestSet {
    pub sources: Vec<String>,
    pub references: Vec<String>,
    /// A line, or the pieces of a line that is too long.
    pub(crate) ids: Vec<Vec<u32>>,
    /// Number of `ids` for each line.
    pieces: Vec<usize>,
}

impl TestSet {
    /// A test set for a network without a length limit.
    pub fn new(sources: Vec<String>, references: Vec<String>, tokenizer: &Tokenizer) -> Result<Self> {
        let ids: Vec<Vec<u32>> = sources.iter().map(|s| tokenizer.encode(s)).collect::<Result<_>>()?;
        let pieces = vec![1; ids.len()];
        Ok(Self { sources, references, ids, pieces })
    }

    /// Splits lines of more than `limit` tokens like the server does.
    fn split(mut self, reader: &Reader, limit: usize) -> Result<Self> {
        let whole = std::mem::take(&mut self.ids);
        for ((ids, source), count) in whole.into_iter().zip(&self.sources).zip(&mut self.pieces) {
            if ids.len() <= limit {
                self.ids.push(ids);
                continue;
            }
            let requests = reader.read(source).requests()?;
            *count = requests.len();
            self.ids.extend(requests.into_iter().map(|request| request.source));
        }
        Ok(self)
    }

    /// The translation of each line, joined from those of its pieces.
    pub(crate) fn join(&self, translations: &[String]) -> Vec<String> {
        let mut rest = translations;
        let mut line = |&count: &usize| {
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            own.join(" ")
        };
        self.pieces.iter().map(&mut line).collect()
    }

    /// Reads the first `count` lines of a pair of files.
    pub fn read(source: &Path, target: &Path, count: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut sources, mut references) = (read_lines(source)?, read_lines(target)?);
        require_equal_counts((source, sources.len()), (target, references.len()))?;
        sources.truncate(count);
        references.truncate(count);
        Self::new(sources, references, tokenizer)
    }

    /// Like [`TestSet::read`], but splits lines of more than `limit` tokens (bos and eos included) like the server
    /// does. The languages are those of source and target.
    ///
    /// # Errors
    /// Files that cannot be read, are empty or differ in their number of lines.
    pub fn read_within(
        source: &Path,
        target: &Path,
        count: usize,
        tokenizer: &Arc<Tokenizer>,
        (from, to): (&str, &str),
        limit: usize,
    ) -> Result<Self> {
        let set = Self::read(source, target, count, tokenizer)?;
        if set.is_empty() {
            let reason = "the file is empty".into();
            return Err(Error::Data { path: source.to_path_buf(), line: 1, reason });
        }
        set.split(&Reader::new(tokenizer.clone(), from, to, limit), limit)
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests;
