//! A chunk of sentences with their translations, stored as JSON lines.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::teacher::{DistillTeacher, Translation};
use crate::decode::SearchOptions;
use crate::train::config::Distill as Settings;
use crate::{Error, Result};

/// For each sentence of a chunk, its translation or the reason why there is none.
#[derive(Debug, PartialEq)]
pub struct Chunk {
    pub outcomes: Vec<Result<String, String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Line {
    Target(String),
    Dropped(String),
}

impl Chunk {
    pub fn translate(
        sentences: &[String],
        teacher: &DistillTeacher,
        options: &SearchOptions,
        settings: &Settings,
    ) -> Result<Self> {
        let outcome = |translated: Translation| {
            let Translation { text, drop_reason } = translated;
            if let Some(reason) = drop_reason {
                return Err(reason.to_owned());
            }
            // A sentence must stay on one line.
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.is_empty() { Err("empty".to_owned()) } else { Ok(line) }
        };
        Ok(Self {
            outcomes: teacher.translate(sentences, options, settings)?.into_iter().map(outcome).collect(),
        })
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for outcome in &self.outcomes {
            let line = match outcome {
                Ok(target) => Line::Target(target.clone()),
                Err(reason) => Line::Dropped(reason.clone()),
            };
            serde_json::to_writer(&mut bytes, &line).map_err(|e| Error::Config(e.to_string()))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// Reads the translations of `sentences`.
    ///
    /// # Errors
    /// A file that is incomplete or has another number of sentences, by line.
    pub fn read(path: &Path, sentences: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let wrong = |line: usize, reason: String| Error::Data { path: path.to_path_buf(), line, reason };
        let mut outcomes = Vec::with_capacity(sentences.len());
        for (index, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line)
                .map_err(|e| wrong(index + 1, format!("{e}; remove the file to have it translated again")))?;
            outcomes.push(match line {
                Line::Target(target) => Ok(target),
                Line::Dropped(reason) => Err(reason),
            });
        }
        if outcomes.len() != sentences.len() {
            let reason = format!(
                "the chunk has {} sentences, expected {}; remove the file to have it translated again",
                outcomes.len(),
                sentences.len()
            );
            return Err(wrong(outcomes.len(), reason));
        }
        Ok(Self { outcomes })
    }
}

#[cfg(test)]
mod tests;
