//! Parallel text to translate and score.

use std::path::Path;

use crate::train::data::corpus::{read_lines, require_equal_counts};
use crate::{Error, Result};

/// Sources and their reference translations, line by line.
pub struct TestSet {
    pub sources: Vec<String>,
    pub references: Vec<String>,
}

impl TestSet {
    /// Reads the first `count` lines of a pair of files.
    ///
    /// # Errors
    /// Files that cannot be read, do not fit each other or have no lines.
    pub fn read(source: &Path, target: &Path, count: usize) -> Result<Self> {
        let (mut sources, mut references) = (read_lines(source)?, read_lines(target)?);
        require_equal_counts((source, sources.len()), (target, references.len()))?;
        sources.truncate(count);
        references.truncate(count);
        if sources.is_empty() {
            let reason = "the file is empty".into();
            return Err(Error::Data { path: source.to_path_buf(), line: 1, reason });
        }
        Ok(Self { sources, references })
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}
